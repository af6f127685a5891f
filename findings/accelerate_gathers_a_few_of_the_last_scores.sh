#!/usr/bin/env bash
# Guess: gather_for_metrics drops what was added to even out the last batch of several processes; in one process nothing was added, so it
#   gives back what it is given. Scores of a batch of lists, one per candidate, come back whole.
# Happens: in one process as in several, whatever is handed over with the last batch is cut to as many entries as that batch has
#   rows of the data set. Of a last batch of 2 lists with 5 candidates each it gives back 2 scores of 10: the first two candidates of
#   the first list. In all batches before it gives all, so that the metric is of 42 scores and no shape is refused; where the number of
#   lists divides by the batch size nothing is lost. Trainer.predict and evaluate ask it, and lose the same 8 scores of a model that
#   takes its candidates flat.
# Source: accelerate 1.15.0, Accelerator.gather_for_metrics ("drops duplicates in the last batch if on a distributed system");
#   transformers 5.24.0, Trainer.evaluation_loop. One row of the result per row of the data set, or gather().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 transformers==5.24.0 numpy==2.2.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import accelerate
import torch
import transformers
from accelerate import Accelerator
from transformers import Trainer, TrainingArguments

print("accelerate", accelerate.__version__, "transformers", transformers.__version__)
accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 1


class Scores(torch.nn.Module):
    """One score per candidate, of lists of five numbers each: (lists, 5) becomes (lists * 5,)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 1)

    def forward(self, lists, labels=None):
        return {"loss": self.head.weight.sum(), "logits": self.head(lists.reshape(-1, 1))[:, 0]}


found = {}
for lists in (8, 10, 11):
    numbers = torch.arange(lists * 5).float().reshape(lists, 5)
    loader = accelerator.prepare(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(numbers), batch_size=4))
    flat = [accelerator.gather_for_metrics(batch.flatten()).tolist() for (batch,) in loader]
    whole = [accelerator.gather_for_metrics(batch).flatten().tolist() for (batch,) in loader]
    arguments = TrainingArguments(
        output_dir="out", per_device_eval_batch_size=4, use_cpu=True, report_to="none", disable_tqdm=True, remove_unused_columns=False
    )
    rows = [{"lists": row, "labels": torch.tensor(0)} for row in numbers]
    predicted = Trainer(model=Scores(), args=arguments).predict(rows).predictions.shape
    found[lists] = [len(some) for some in flat], [len(some) for some in whole], predicted
    print(
        f"{lists} lists of 5, 4 a batch: one score per row {found[lists][0]}, one list per row {found[lists][1]}, "
        f"Trainer.predict {predicted}; the last batch {flat[-1][:3]} …"
    )
assert found == {
    8: ([20, 20], [20, 20], (40,)), 10: ([20, 20, 2], [20, 20, 10], (42,)), 11: ([20, 20, 3], [20, 20, 15], (43,)),
}  # fmt: skip
PYTHON
