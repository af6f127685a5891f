"""Whether a reranker orders lists better than the first stage did: measured when it is finetuned, kept with it.

lift = Lift(ndcg=0.408, first_stage=0.443, low=-0.06, high=-0.01, lists=300)
lift.helps         # False
lift.sentence()    # what it says on the screen, in the card and when it is served
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Lift:
    """nDCG@10 of a reranker and of first-stage order on the same validation lists."""

    ndcg: float
    first_stage: float
    low: float
    """Lower end of the paired 95 % interval of the difference (bootstrap over lists)."""
    high: float
    lists: int
    """Validation lists with a label above 0."""

    @property
    def helps(self) -> bool:
        """The whole interval is above 0."""
        return self.low > 0

    def sentence(self) -> str:
        """The figures, what they mean, and where it does not help what to do."""
        figures = (
            f"nDCG@10 {self.ndcg:.3f} on {self.lists} validation lists, {self.ndcg - self.first_stage:+.3f} "
            f"({self.low:+.3f}…{self.high:+.3f}) against first-stage order, {self.first_stage:.3f}"
        )
        if self.helps:
            return f"{figures}: it beats first-stage order."
        verdict = "it is worse than first-stage order" if self.high < 0 else "it does not beat first-stage order"
        return (
            f"{figures}: {verdict}. Do not serve it yet: finetune on more lists, over a larger base, or with more "
            "signals per product (signals.names in the mapping, prompt.features in the config)."
        )
