#!/usr/bin/env bash
# Guess: dataloader_persistent_workers=True spares the start of workers; trainer.evaluate(test) measures the set it is given, and
#   evaluate({"january": …, "march": …}) each of the two.
# Happens: whatever was measured first is measured again, for as long as the Trainer lives. After training with an eval_dataset,
#   evaluate(test) gives the figures of validation, under eval_loss and eval_…, and evaluate of a dict gives them under every name.
#   So the test figure equals that of the checkpoint chosen on validation, and months, shops or languages look alike. No word.
#   predict(test) reads the test set, and so do names of a dict that was given to Trainer(eval_dataset=).
# Source: transformers 5.24.0, Trainer._get_dataloader and get_eval_dataloader (kept under the name "eval"); its pages say of the option
#   that it may use more memory. huggingface/sentence-transformers#3895 met it. Measure by predict, or leave the option off.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.2.6
cd "$folder"
cat > measure.py <<'PYTHON'
import torch
import transformers
from transformers import Qwen3Config, Qwen3ForSequenceClassification, Trainer, TrainingArguments


def rows(count: int, grade: float) -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": torch.tensor([5, 6, 7]), "labels": torch.tensor(grade)} for _ in range(count)]


def main() -> None:
    print("transformers", transformers.__version__)
    size = dict(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1)
    model = Qwen3ForSequenceClassification(Qwen3Config(**size, num_key_value_heads=2, head_dim=8, pad_token_id=0))
    for keep in (False, True):
        arguments = TrainingArguments(
            output_dir="out", dataloader_num_workers=1, dataloader_persistent_workers=keep, use_cpu=True, report_to="none",
            disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=arguments, eval_dataset=rows(8, 0.0),
            compute_metrics=lambda result: {"rows": len(result.label_ids), "grade": float(result.label_ids.mean())},
        )  # fmt: skip
        found = [trainer.evaluate(), trainer.evaluate(rows(20, 1.0)), trainer.evaluate({"may": rows(5, 3.0), "june": rows(6, 4.0)})]
        seen = {key.removesuffix("_grade"): (one[key.replace("grade", "rows")], one[key]) for one in found[2:] for key in one if "grade" in key}
        seen |= {"validation": (found[0]["eval_rows"], found[0]["eval_grade"]), "test": (found[1]["eval_rows"], found[1]["eval_grade"])}
        for name in ("validation", "test", "eval_may", "eval_june"):
            print(f"RESULT persistent workers {keep!s:5} {name:10} {seen[name][0]:2} rows, mean grade {seen[name][1]}")
        assert len(trainer.predict(rows(20, 1.0)).predictions) == 20
        right = {"validation": (8, 0.0), "test": (20, 1.0), "eval_may": (5, 3.0), "eval_june": (6, 4.0)}
        assert seen == (dict.fromkeys(right, (8, 0.0)) if keep else right)


if __name__ == "__main__":
    main()
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" measure.py
