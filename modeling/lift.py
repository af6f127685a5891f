"""Whether a reranker orders lists better than the first stage did: measured when it is finetuned, kept with it.

lift = Lift(ndcg=0.408, first_stage=0.443, low=-0.06, high=-0.01, lists=300, blended=Blended(0.2, 0.012, 0.003, 0.02))
lift.helps         # False: alone it does not; at a personalization of 0.2 it does
lift.sentence()    # what it says on the screen, in the card and when it is served
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from reshelf.translation import translations

LIST_METRICS: dict[str, str] = {"ndcg@10": "nDCG@10", "dcg@10": "SNIPS DCG@10"}
"""Metrics of the order within lists, as people write them."""


@dataclass
class Blended:
    """What the order gains over the first stage's where it is only in part the model's (`modeling.blend`)."""

    personalization: float
    """The weight, between 0 and 1."""
    gain: float
    """In the metric of `Lift`."""
    low: float
    """Lower end of the paired interval of the gain, 95 % for all the weights that were tried together; above 0."""
    high: float


@dataclass
class Lift:
    """A metric of a reranker and of first-stage order on the same validation lists."""

    ndcg: float
    """Of the reranker."""
    first_stage: float
    low: float
    """Lower end of the paired 95 % interval of the difference (bootstrap over lists)."""
    high: float
    lists: int
    """Validation lists with a label above 0."""
    blended: Blended | None = None
    """At the weight whose interval begins highest, where the model alone does not help and one does."""
    metric: Literal["ndcg@10", "dcg@10"] = "ndcg@10"
    """nDCG@10 of the labels as they are, or DCG@10 of labels weighted by inverse propensity."""

    @property
    def helps(self) -> bool:
        """The whole interval is above 0."""
        return self.low > 0

    def helps_at(self, personalization: float) -> bool:
        """Whether the model may have that weight: alone it helps, or blended at that weight or a larger one."""
        return self.helps or (self.blended is not None and personalization <= self.blended.personalization)

    def sentence(self, language: str = "en") -> str:
        """The figures, what they mean, and where it does not help what to do.

        Args:
            language: of the model's prompts.
        """
        _ = translations(language).gettext
        figures = _(
            "{metric} {ndcg:.3f} on {lists} validation lists, {gain:+.3f} ({low:+.3f}…{high:+.3f}) against first-stage "
            "order, {first_stage:.3f}"
        ).format(**asdict(self) | {"metric": LIST_METRICS[self.metric], "gain": self.ndcg - self.first_stage})
        if self.helps:
            return _("{figures}: it beats first-stage order.").format(figures=figures)
        if self.high < 0:
            verdict = _("{figures}: it is worse than first-stage order.").format(figures=figures)
        else:
            verdict = _("{figures}: it does not beat first-stage order.").format(figures=figures)
        if self.blended is not None:
            verdict += _(
                " Blended with it at a personalization of {personalization:g} it gains {gain:+.3f} "
                "({low:+.3f}…{high:+.3f}): serve it with --personalization {personalization:g}, or improve it first:"
            ).format(**asdict(self.blended))
        else:
            verdict += _(" Do not serve it yet:")
        if self.metric == "ndcg@10":
            verdict += _(" weight clicks by inverse propensity (reshelf data propensities),")
        # Sizes: benchmarks.quickstart and benchmarks.data_needed.
        return verdict + _(
            " give it more signals per product (signals.names in the mapping, prompt.features in the config), finetune "
            "on more training lists (1600 of a real search log beat first-stage order, 900 of real purchases did not), "
            "or over a larger base."
        )
