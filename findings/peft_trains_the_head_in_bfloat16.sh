#!/usr/bin/env bash
# Guess: on a base in bfloat16 peft trains in float32 what it trains (autocast_adapter_dtype=True, "float32 … for stable training"): adapters,
#   and the new head of a classifier, which task_type="SEQ_CLS" puts into modules_to_save.
# Happens: adapters, DoRA's magnitudes and trainable tokens are float32, the head stays in bfloat16. A weight of 0.02 has neighbours 0.0001
#   away, so that steps of 2e-5 round to nothing: after 100 of them two thirds of the head's weights are to the bit what they were drawn as, where
#   every weight of the adapters has moved. A reranker's head is drawn at random, so that its scores go on being read off at
#   random directions which the adapters have to turn to. A base that a file holds in bfloat16 is in bfloat16 without being asked, as of
#   transformers 5. No warning.
# Source: peft 0.21.2, tuners_utils.py, cast_adapter_dtype, and utils/other.py, ModulesToSaveWrapper. Cast the head yourself before the optimizer
#   is made, as below. Reshelf has no such head: its scores are read from the base's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0 numpy==2.2.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import peft
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, Qwen3Config, Qwen3ForCausalLM

print("peft", peft.__version__)
size = dict(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
base = Qwen3ForCausalLM(Qwen3Config(**size, num_key_value_heads=2, head_dim=32, pad_token_id=0)).to(torch.bfloat16)
base.save_pretrained("base")
found = {}
for cast in (False, True):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained("base", num_labels=1)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS"))
    head = model.base_model.model.score.modules_to_save["default"]
    if cast:
        head.float()
        model.base_model.model.score.register_forward_pre_hook(lambda _, hidden: (hidden[0].float(),))
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    before = {name: weights.detach().clone() for name, weights in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=2e-5, weight_decay=0.0)
    for _ in range(100):
        scores = model(torch.randint(1, 64, (4, 6))).logits[:, 0].float()
        optimizer.zero_grad()
        ((scores - 1) ** 2).mean().backward()
        optimizer.step()
    for name, weights in trained.items():
        kind = "head" if "score" in name else "adapters"
        found.setdefault((cast, kind), []).append((weights.dtype, float((weights == before[name]).float().mean())))
    for kind in ("adapters", "head"):
        kinds, still = zip(*found[cast, kind], strict=True)
        found[cast, kind] = set(kinds), sum(still) / len(still)
        print(f"head cast by hand {cast!s:5} {kind:8} {kinds[0]}: {found[cast, kind][1]:.0%} of the weights as at the start")
assert found[False, "adapters"][0] == {torch.float32} and found[False, "adapters"][1] < 0.05
assert found[False, "head"][0] == {torch.bfloat16} and found[False, "head"][1] > 0.5
assert found[True, "head"][0] == {torch.float32} and found[True, "head"][1] < 0.05
PYTHON
