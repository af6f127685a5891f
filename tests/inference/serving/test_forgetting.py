"""Nothing that prompts are made with holds what a forgotten shopper typed; test_history.py searches the stores."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from reshelf.data.schema import Event, Item
from reshelf.inference.assembly import assemble
from reshelf.inference.ranking import prepare
from reshelf.inference.serving.engine.models import Models
from reshelf.modeling.spec import read_reranker
from reshelf.prompts.builder import PromptBuilder


def held(root: Any, secret: str) -> int:
    """Texts with `secret` in them that can be reached from an object, caches and all; not through modules."""
    gc.collect()
    found, seen, waiting = 0, {id(root)}, [root]
    while waiting:
        for one in gc.get_referents(waiting.pop()):
            if id(one) in seen or isinstance(one, type | ModuleType) or (type(one) is dict and "__builtins__" in one):
                continue
            seen.add(id(one))
            found += type(one) is str and secret in one
            waiting.append(one)
    return found


def rank(builder: PromptBuilder, secret: str) -> None:
    """As the service does: a query, a search in the history, and an item that the shop sent with the event."""
    new = Item(item_id="new", title=f"{secret} title")
    history = [Event(kind="search", query=f"{secret} search"), Event(kind="click", item_id="new")]
    documents = [builder.items["p1"], builder.items["p2"]]
    assembled = assemble(builder, f"{secret} query", documents, history, history_items=[new], impute=True)
    prepare(assembled.builder, assembled.ranking)


def test_what_a_forgotten_shopper_typed_is_held_by_no_model(reranker_folder: Path, catalogue: dict[str, Item]) -> None:
    secret = "privatewords"
    spec, tokenizer = read_reranker(reranker_folder)
    builder = spec.builder(tokenizer, catalogue)

    class Engine:
        """An engine that holds nothing."""

        async def forget(self, namespace: str) -> None: ...

    served: Any = SimpleNamespace(builder=builder, engine=Engine())
    models = Models.__new__(Models)
    models._served = {reranker_folder: served}
    rank(builder, secret)
    assert held(models, secret) > 0
    asyncio.run(models.forget("tenant"))
    assert held(models, secret) == 0
