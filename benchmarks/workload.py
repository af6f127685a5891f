"""What all contestants of a benchmark work on: one small Qwen3, its tokenizer, and the same lists as text and as ids.

    write_workload(folder, shape_lists(tokenizer, prefix=1024, item=64, candidates=32, count=8), tokenizer)
    read_lists(folder)[0].prompt()          # in the contestant's process

The model is random: speed and memory do not depend on what a model knows. `small` has 3.3 million parameters, which two
CPU cores can train in a minute; on a GPU the shapes of the real Qwen3 models are used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

BASE = "base"
LISTS = "lists.jsonl"
SHAPES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 4, "num_attention_heads": 4,
              "num_key_value_heads": 2, "head_dim": 64},
    "Qwen3-0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
                   "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
    "Qwen3-4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
}  # fmt: skip


@dataclass(frozen=True)
class TokenizedList:
    """A list for everybody: the texts `prefix` and `items[k] + answer` read as `prefix_ids` and `item_ids[k]`."""

    prefix: str
    items: list[str]
    answer: str
    prefix_ids: list[int]
    item_ids: list[list[int]]

    @property
    def tokens(self) -> int:
        """Distinct tokens: the prefix once, every item once."""
        return len(self.prefix_ids) + sum(map(len, self.item_ids))

    @property
    def texts(self) -> list[str]:
        return [item + self.answer for item in self.items]

    def prompt(self) -> Any:
        """As a `ListPrompt`."""
        from reshelf.prompts.list_prompt import ListPrompt, Truncated

        items = tuple(np.array(ids, dtype=np.int32) for ids in self.item_ids)
        return ListPrompt("", np.array(self.prefix_ids, dtype=np.int32), items, Truncated())


def simulated_tokenizer() -> Any:
    """A tokenizer of the simulated marketplace's words."""
    from reshelf.data.marketplace.catalogue import make_catalogue
    from reshelf.finetune.pretraining.tokenizer import train_tokenizer

    titles = [item.title for item in make_catalogue(seed=0, items_per_category=60).items.values()]
    return train_tokenizer([f" {title}" for title in titles], 2048)


def words_of(tokenizer: Any) -> list[str]:
    """Words that are one token each, with the space before them."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    words = sorted(token.replace("Ġ", " ") for token in tokens if token.startswith("Ġ") and token[1:].isalpha())
    return [word for word in words if len(tokenizer.encode(word, add_special_tokens=False)) == 1]


def shape_lists(
    tokenizer: Any, prefix: int, item: int, candidates: int, count: int, seed: int = 0
) -> list[TokenizedList]:
    """Lists of random words with exactly these numbers of tokens."""
    rng, words = np.random.default_rng(seed), words_of(tokenizer)

    def draw(n: int) -> str:
        return "".join(rng.choice(words, n))

    return [
        text_list(tokenizer, draw(prefix), [draw(item - 1) for _ in range(candidates)], words[0]) for _ in range(count)
    ]


def text_list(tokenizer: Any, prefix: str, items: Sequence[str], answer: str) -> TokenizedList:
    """Texts with their ids, each part read alone."""

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    return TokenizedList(prefix, list(items), answer, ids(prefix), [ids(item + answer) for item in items])


def beauty_lists(root: Path, candidates: int, count: int) -> tuple[list[TokenizedList], Any]:
    """Real lists of the Amazon Beauty search set, written by Reshelf's own prompt, and a tokenizer of its titles."""
    import tempfile

    from reshelf.data.importing.importer import ImportConfig, import_logs
    from reshelf.finetune.batches import thin
    from reshelf.finetune.pretraining.tokenizer import train_tokenizer
    from reshelf.prompts.builder import PromptBuilder
    from reshelf.prompts.config import PromptConfig

    with tempfile.TemporaryDirectory() as folder:
        changes = {"signals.names": [], "signals.first_stage": {}, "build": None}
        data = import_logs(ImportConfig("amazon_beauty_search", Path(folder) / "data", root, 0, count, changes, True))
    titles = [item.title for item in data.items.values()]
    tokenizer = train_tokenizer(
        [f" {title}" for title in titles] + ["\nhistory ;\nbought query: product: =>"] * 50, 4096
    )
    config = PromptConfig(
        "plain", fields=["title", "category"], event_fields=["title"], history_tokens=512, item_tokens=64
    )
    builder = PromptBuilder(tokenizer, config, data.items)
    lists = []
    for n, ranking in enumerate(data.lists["test"]):
        ranking = thin(ranking, candidates, [0, n])
        bought = int(np.argmax(ranking.labels or ()))
        ranking = ranking.only([bought, *(k for k in range(len(ranking.candidates)) if k != bought)])
        prompt = builder.build(ranking)
        prefix, *items = (str(tokenizer.decode(ids.tolist())) for ids in (prompt.prefix, *prompt.items))
        answer = " =>"
        lists.append(text_list(tokenizer, prefix, [item.removesuffix(answer) for item in items], answer))
    return lists, tokenizer


def write_workload(folder: Path, lists: Sequence[TokenizedList], tokenizer: Any, shape: str = "small") -> None:
    """Write the model, its tokenizer and the lists."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        **{"vocab_size": len(tokenizer), **SHAPES[shape]},
        max_position_embeddings=16384,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    Qwen3ForCausalLM(config).to(torch.float32 if shape == "small" else torch.bfloat16).save_pretrained(folder / BASE)
    tokenizer.save_pretrained(folder / BASE)
    write_lists(folder, lists)


def write_lists(folder: Path, lists: Sequence[TokenizedList]) -> None:
    """Replace the lists of a workload."""
    lines = [json.dumps(asdict(entry), ensure_ascii=False) for entry in lists]
    (folder / LISTS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_lists(folder: Path) -> list[TokenizedList]:
    """The lists of a workload."""
    return [TokenizedList(**json.loads(line)) for line in (folder / LISTS).read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of a forward pass, counted from the model's shape (two per multiply-add)."""

    shape: str = "small"

    def forward(self, tokens: int, pairs: int) -> float:
        """Linear layers over `tokens`, attention over `pairs` of a query and a key that it may see."""
        s = SHAPES[self.shape]
        heads, width = s["num_attention_heads"], s["head_dim"]
        attention = s["hidden_size"] * width * (2 * heads + 2 * s["num_key_value_heads"])
        linear = attention + 3 * s["hidden_size"] * s["intermediate_size"]
        return s["num_hidden_layers"] * (2.0 * linear * tokens + 4.0 * heads * width * pairs)

    def one_sequence(self, prefix: int, items: Sequence[int]) -> float:
        """A list read as one sequence."""
        pairs = _causal(prefix) + sum(n * prefix + _causal(n) for n in items)
        return self.forward(prefix + sum(items), pairs)

    def separate(self, prefix: int, items: Sequence[int]) -> float:
        """The same list as one prompt per candidate."""
        return self.forward(sum(prefix + n for n in items), sum(_causal(prefix + n) for n in items))


def _causal(length: int) -> int:
    return length * (length + 1) // 2
