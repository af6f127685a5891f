#!/usr/bin/env bash
# Guess: bf16_full_eval=True computes evaluation in bfloat16 ("faster and saves memory"); the model that was trained in float32 stays, and
#   save_model after evaluate saves what was trained.
# Happens: the first evaluate or predict after train() casts the model itself, for good: save_model then writes weights of 8 bits of
#   precision, so that what is saved hangs on whether one measured before saving or after it. Training on with the same Trainer stops at the
#   optimizer's state; with another one it is in bfloat16, where an update below a 256th of a weight is lost. The rotary frequencies are
#   rounded too, which from_pretrained(dtype=torch.bfloat16) leaves in float32, so the file that evaluation left behind does not even give the
#   scores that were measured: they come from other angles, and casting back to float32 does not turn them back.
# Source: transformers 5.24.0, Trainer.evaluation_loop (model.to, where training is not running); its page says that it "can harm
#   metric values". huggingface/transformers#30709 on the frequencies. Save first, or evaluate under bf16=True (autocast) instead.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.2.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import AutoModelForSequenceClassification, Qwen3Config, Qwen3ForSequenceClassification, Trainer, TrainingArguments

print("transformers", transformers.__version__)
torch.manual_seed(0)
size = dict(vocab_size=50, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_labels=1)
model = Qwen3ForSequenceClassification(Qwen3Config(**size, num_key_value_heads=2, head_dim=32, pad_token_id=0))
for weights in model.parameters():
    if weights.dim() > 1:
        torch.nn.init.normal_(weights, std=0.3)
rows = [{"input_ids": torch.randint(1, 50, (600,)), "labels": torch.tensor(float(n % 2))} for n in range(8)]
found = {}
for measured in (False, True):
    arguments = TrainingArguments(
        output_dir="out", max_steps=2, bf16_full_eval=True, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    if not measured:
        trainer.train()
    else:
        scores = torch.tensor(trainer.predict(rows).predictions[:, 0])
    trainer.save_model("saved")
    saved = AutoModelForSequenceClassification.from_pretrained("saved").eval()
    found[measured] = saved.dtype
    print(f"saved {'after predict' if measured else 'after train'}: {saved.dtype}")
with torch.no_grad():
    again = torch.cat([saved(row["input_ids"][None]).logits[0] for row in rows]).float()
frequencies = model.float().model.rotary_emb.inv_freq, saved.model.rotary_emb.inv_freq
turned = float((600 * (frequencies[0] - frequencies[1])).abs().max())
print(f"scores measured {[round(float(x), 2) for x in scores]}")
print(f"of what is saved {[round(float(x), 2) for x in again]}")
print(f"at position 600 a frequency is off by up to {turned:.2f} radians, cast back to float32")
assert found == {False: torch.float32, True: torch.bfloat16}
assert saved.model.rotary_emb.inv_freq.dtype == torch.float32
assert turned > 0.1
assert float((scores - again).abs().max()) > 0.1
PYTHON
