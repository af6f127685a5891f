"""The card of an exported checkpoint: what it is, how to load it with three libraries, and how close each one is.

write_export_card(folder, "float32", 1e-3, trained, checks, texts)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.inference.engines.dense import Dtype
from reshelf.inference.export.verify import Agreement, TextList, text_of
from reshelf.modeling.checkpoint import TrainedReranker
from reshelf.prompts.levels import MISSING
from reshelf.translation import translations

_CONTEXT = {"device": "mobile", "season": "winter", "page": "search", "instruction": "below 80"}
"""Of the example; of other names, the name."""


@dataclass(frozen=True)
class Check:
    """One library's scores against the reranker's."""

    library: str
    version: str
    agreement: Agreement | None
    """None where it could not be checked here."""
    problem: str = ""
    """Why it could not."""

    def line(self) -> str:
        """One line for the terminal."""
        if self.agreement is None:
            return f"  {self.library:22} not checked: {self.problem}"
        a = self.agreement
        return (
            f"  {self.library:22} largest difference {a.difference:.1e}, Kendall tau {a.kendall:.4f}, "
            f"same order in {a.same_order:.0%} of lists"
        )

    def row(self, language: str) -> str:
        """One row of the card's table."""
        _ = translations(language).gettext
        if self.agreement is None:
            return f"| {self.library} | {_('not checked: {problem}').format(problem=_(self.problem))} | | | |"
        a = self.agreement
        sent = _("token ids") if self.library == "transformers" else _("text pairs")
        everywhere = ""
        if a.difference != a.difference_everywhere:
            everywhere = _(" ({difference:.1e} everywhere)").format(difference=a.difference_everywhere)
        return (
            f"| {self.library} {self.version} | {sent} | {a.difference:.1e}{everywhere} | {a.kendall:.4f} "
            f"| {a.same_order:.0%} |"
        )


def write_export_card(
    folder: Path,
    dtype: Dtype,
    tolerance: float,
    trained: TrainedReranker,
    checks: Sequence[Check],
    texts: Sequence[TextList],
) -> None:
    """Write `README.md`, in the model's language. The example in it is made up; nothing of a shopper's or a shop's gets
    into the card."""
    spec = trained.spec
    language = spec.prompt.language
    _ = translations(language).gettext
    prefix, item = _example(trained)
    same = np.concatenate([text.same for text in texts])
    base = Path(spec.model.base).name if Path(spec.model.base).is_dir() else spec.model.base
    if spec.model.quantise:
        weights = _(
            "The 4-bit (NF4) base `{base}`, dequantised: the weights the adapter was trained over, not the original "
            "ones they were quantised from, with the LoRA adapter added to them in float32, stored as {dtype}."
        )
    else:
        weights = _("The base `{base}`, with the LoRA adapter added to it in float32, stored as {dtype}.")
    head = _("The classifier is the vocabulary head's row for {positive!r} minus its row for {negative!r}.").format(
        positive=spec.prompt.positive, negative=spec.prompt.negative
    )
    is_pair = _(
        "A sequence-classification checkpoint with one output: the log-odds that this shopper wants this product, raw "
        "(no sigmoid). Higher is better; only the order within one list means something. Input is a pair: the prefix "
        "({parts}) and the item, each exactly as Reshelf's prompt builder writes them."
    ).format(parts=_parts(trained))
    service = _(
        "As a service: `vllm serve FOLDER --runner pooling --dtype {dtype}`, then POST {body} to `/rerank`. Always "
        "give vLLM the dtype: left alone it casts float32 to float16. All of them answer with raw log-odds, because "
        "`config.json` names the identity as activation. Give each library prefix and item as they are: no chat "
        "template, no truncation. The tokenizer adds no tokens of its own."
    ).format(dtype=dtype, body='`{"query": prefix, "documents": [item]}`')
    proof = _(
        "{lists} lists, {prompts} prompts, scored with each library and compared with the base and its adapter in "
        "Reshelf's own engine (computing in float32). Tolerance: {tolerance:.1e} on the raw score."
    ).format(lists=len(texts), prompts=same.size, tolerance=tolerance)
    columns = (
        *(_("library"), _("input"), _("largest difference")),
        *(_("mean Kendall tau"), _("lists in the same order")),
    )
    read = _(
        "{share:.2%} of the prompts read as exactly the same token ids when given as text; {others} do not, and where "
        "text was given the largest difference is over those that do."
    ).format(share=same.mean(), others=int((~same).sum()))
    rows = "\n".join(check.row(language) for check in checks)
    name = folder.name.removeprefix(".").removesuffix(".partial")  # what it will have when it is finished
    text = f"""---
pipeline_tag: text-ranking
library_name: sentence-transformers
tags: [reranker, cross-encoder, reshelf]
---

# {_("Personalised reranker, merged")}

{is_pair}

## {_("Use")}

```python
prefix = {prefix!r}
item = {item!r}

from sentence_transformers import CrossEncoder
CrossEncoder("{name}").predict([(prefix, item)])

from vllm import LLM
llm = LLM("{name}", runner="pooling", dtype="{dtype}")
llm.score(prefix, [item])

from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSequenceClassification.from_pretrained("{name}")
model(**tokenizer(prefix, item, return_tensors="pt")).logits
```

{service}

{_levels(trained)}## {_("Weights")}

{weights.format(base=base, dtype=dtype)}
{head}

## {_("Proof")}

{proof}

| {" | ".join(columns)} |
| --- | --- | --- | --- | --- |
{rows}

{read}
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "levels.json").write_text(json.dumps(trained.spec.levels.edges, indent=1), encoding="utf-8")


def _parts(trained: TrainedReranker) -> str:
    """What a prefix says, in its order."""
    prompt = trained.spec.prompt
    _ = translations(prompt.language).gettext
    memory = [_("counts of events that have no room in the history")] if prompt.memory_tokens else []
    context = [_("{name} where it is known").format(name=name) for name in prompt.context]
    return _(", ").join([_("instruction"), *memory, _("history"), *context, _("query")])


def _levels(trained: TrainedReranker) -> str:
    """How the numbers in an item become the levels that its text holds; nothing where it holds none."""
    edges = trained.spec.levels.edges
    if not edges:
        return ""
    _ = translations(trained.spec.prompt.language).gettext
    how = _(
        "An item's text holds its numbers as levels: how many of these edges are below the number ({call}). The exact "
        "edges are in `levels.json`."
    ).format(call='`numpy.searchsorted(edges, number, side="left")`')
    if trained.spec.prompt.level_format == "letter":
        how += " " + _("Level 0 is written `A`, 25 `Z`, 26 `a`.")
    if trained.spec.levels.missing:
        how += " " + _("A number that is not known is written `{missing}`.").format(missing=MISSING)
    rows = "\n".join(f"| {name} | {', '.join(f'{edge:.6g}' for edge in values)} |" for name, values in edges.items())
    return f"""## {_("Numbers of a product")}

{how}

| {_("number")} | {_("edges")} |
| --- | --- |
{rows}

"""


def _example(trained: TrainedReranker) -> tuple[str, str]:
    """A made-up prefix and item, as text, in the model's language."""
    chinese = trained.spec.prompt.language == "zh"
    boots, jacket, query = ("登山靴", "防雨夹克", "夹克") if chinese else ("Hiking boots", "Rain jacket", "jacket")
    currency = "CNY" if chinese else "EUR"
    items = {
        "boots": Item(item_id="boots", title=boots, brand="Nordvik", price=89.0, currency=currency),
        "jacket": Item(item_id="jacket", title=jacket, brand="Nordvik", price=59.0, currency=currency),
    }
    names = trained.spec.prompt.features
    ranking = RankingList(
        list_id="example",
        user_id="example",
        query=query,
        context={name: _CONTEXT.get(name, name) for name in trained.spec.prompt.context},
        history=(Event(kind=EventKind.PURCHASE, item_id="boots"),),
        candidates=("jacket",),
        scores=(0.0,),
        features={name: (0.0,) for name in names if name != "first_stage"},
    )
    prompt = trained.builder(items).build(ranking)
    return text_of(prompt.prefix, trained.tokenizer), text_of(prompt.items[0], trained.tokenizer)
