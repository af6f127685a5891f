#!/usr/bin/env bash
# Guess: BatchSamplers.NO_DUPLICATES moves a row whose text is in the batch already to a later batch; an epoch reads every row once, in
#   more batches where it must (drop_last=False).
# Happens: the sampler makes those batches, Trainer does not read them: it stops after rows / batch size of them, and the batches to spare are
#   what comes last, the rows of the most frequent queries. Of a query with 200 clicks of 1,000, in batches of 20, 50 are trained on in an
#   epoch, every fourth; with drop_last some 150 rows of others come twice. A log is led by its popular
#   queries, so that those a shop lives on are learned least; of all distinct queries nothing is lost. Without a word (with drop_last a
#   warning of repeats), and epoch, progress and train_samples_per_second say that all was read.
# Source: sentence-transformers 6.2.0, base/sampler.py, NoDuplicatesBatchSampler (__len__ is rows / batch size; of more batches it says
#   "may legitimately yield more"); transformers 5.24.0, Trainer._run_epoch. One row per query, or more epochs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 datasets==5.2.0 sentence-transformers==6.2.0 numpy==2.2.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sentence_transformers
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

print("sentence-transformers", sentence_transformers.__version__)
words = Tokenizer(WordLevel({"[UNK]": 0, **{f"w{n}": n + 1 for n in range(2000)}}, "[UNK]"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
model = SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=4)], device="cpu")
clicks = Dataset.from_list([{"query": f"w{0 if n < 200 else n}", "product": f"w{1000 + n}"} for n in range(1000)])
read = []


class Loss(MultipleNegativesRankingLoss):
    def forward(self, columns, labels):
        read.extend(zip(*[column["input_ids"].tolist() for column in columns], strict=True))
        return super().forward(columns, labels)


found = {}
for sampler in ("batch_sampler", "no_duplicates"):
    for drop in (False, True):
        read.clear()
        arguments = SentenceTransformerTrainingArguments(
            output_dir="out", num_train_epochs=1, per_device_train_batch_size=20, batch_sampler=sampler, dataloader_drop_last=drop,
            report_to="none", disable_tqdm=True, save_strategy="no", use_cpu=True,
        )  # fmt: skip
        SentenceTransformerTrainer(model, arguments, train_dataset=clicks, loss=Loss(model)).train()
        found[sampler, drop] = len(set(read)), sum(query == 1 for query, _ in set(read))
        print(
            f"RESULT {sampler}, drop_last={drop!s:5}: {len(read)} rows read, {found[sampler, drop][0]} different of 1000, "
            f"{found[sampler, drop][1]} of the 200 of the popular query"
        )
assert found["batch_sampler", False] == found["batch_sampler", True] == (1000, 200)
assert found["no_duplicates", False] == (850, 50)
assert found["no_duplicates", True][0] < 860 and found["no_duplicates", True][1] == 50
PYTHON
