#!/usr/bin/env bash
# Guess: the rows of a batch do not know of each other: a prompt padded beside a longer one, and masked, has the score that it has
#   alone, up to rounding. What a model does for long prompts it does by the prompt's own length.
# Happens: rope_type "longrope" (Phi-3, Phi-3.5 and Phi-4 mini with 128k tokens) and "dynamic" take their factors from the
#   longest row of the batch, padding included. One prompt above original_max_position_embeddings (4,096) turns all others to
#   the factors for long ones: other scores, by as much as between two products here. A list has another order by what else was
#   in the batch, and by pad_to_multiple_of or padding="max_length" alone. No warning.
# Source: transformers 5.24.0, modeling_rope_utils.py, dynamic_rope_update (seq_len = max(position_ids) + 1); its comments speak of one
#   sequence that grows. Batch prompts on either side of the bound apart. Reshelf refuses budgets that allow longer ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import LlamaConfig, LlamaForSequenceClassification, Phi3Config, Phi3ForSequenceClassification

transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__)
size = dict(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_labels=1)
size |= dict(num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
factors = dict(short_factor=[1.0] * 8, long_factor=[1.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0])
longrope = dict(rope_type="longrope", rope_theta=1e4, **factors)
long_context = dict(max_position_embeddings=256, original_max_position_embeddings=32)
models = {
    "longrope": (Phi3ForSequenceClassification, Phi3Config(**size, **long_context, rope_parameters=longrope)),
    "dynamic": (
        LlamaForSequenceClassification,
        LlamaConfig(
            **size, max_position_embeddings=32, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=4.0)
        ),
    ),
    "default": (
        LlamaForSequenceClassification,
        LlamaConfig(**size, max_position_embeddings=256, rope_parameters=dict(rope_type="default", rope_theta=1e4)),
    ),
}
prompts = [torch.randint(3, 50, (20,), generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
long = torch.randint(3, 50, (60,), generator=torch.Generator().manual_seed(9))


def scores(model, rows, multiple=1):
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    ids = torch.nn.functional.pad(ids, (0, -ids.shape[1] % multiple))
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=(ids != 0).long()).logits[:8, 0]


for name, (kind, config) in models.items():
    torch.manual_seed(0)
    model = kind(config).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    alone = torch.cat([scores(model, [prompt]) for prompt in prompts])
    among, beside, padded = scores(model, prompts), scores(model, [*prompts, long]), scores(model, prompts, 64)
    gap = {"eight alike": among - alone, "beside a long one": beside - alone, "padded to 64": padded - alone}
    print(f"{name}: largest change of a score", {way: round(change.abs().max().item(), 3) for way, change in gap.items()})
    print(f"  order alone {alone.argsort().tolist()}, beside a long one {beside.argsort().tolist()}")
    assert (among - alone).abs().max() < 1e-4
    if name == "default":
        assert (beside - alone).abs().max() < 1e-4
    else:
        assert (beside - alone).abs().max() > 0.05
        assert (padded - alone).abs().max() > 0.05
        assert alone.argsort().tolist() != beside.argsort().tolist()
PYTHON
