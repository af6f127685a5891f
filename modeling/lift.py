"""Whether a reranker orders lists better than the first stage did: measured when it is finetuned, kept with it.

lift = Lift(ndcg=0.408, first_stage=0.443, low=-0.06, high=-0.01, lists=300)
lift.helps         # False
lift.sentence()    # what it says on the screen, in the card and when it is served
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from reshelf.translation import translations


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

    def sentence(self, language: str = "en") -> str:
        """The figures, what they mean, and where it does not help what to do.

        Args:
            language: of the model's prompts.
        """
        _ = translations(language).gettext
        figures = _(
            "nDCG@10 {ndcg:.3f} on {lists} validation lists, {gain:+.3f} ({low:+.3f}…{high:+.3f}) against first-stage "
            "order, {first_stage:.3f}"
        ).format(**asdict(self), gain=self.ndcg - self.first_stage)
        if self.helps:
            return _("{figures}: it beats first-stage order.").format(figures=figures)
        if self.high < 0:
            verdict = _("{figures}: it is worse than first-stage order.").format(figures=figures)
        else:
            verdict = _("{figures}: it does not beat first-stage order.").format(figures=figures)
        # Sizes: benchmarks.data_needed.
        return verdict + _(
            " Do not serve it yet: finetune on more training lists (on real purchases 900 of them beat first-stage "
            "order, 200 did not), over a larger base, or with more signals per product (signals.names in the mapping, "
            "prompt.features in the config)."
        )
