"""Claim: bfloat16 keeps a list's order but for neighbours, and most of what it changes is the rounding of activations.

    make bench NAME=rounding ARGS="--model runs/quality/crowdflower/reshelf --data runs/quality/crowdflower/data"
    python -m benchmarks.rounding --lists 10          # the demo's reranker; nothing is written

The reference is float32. Beside bfloat16 as it is served stand two halves of it that are computed in float32: the
weights rounded to bfloat16, and what goes into each product of a linear layer. Kendall's tau is the mean over lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from scipy.stats import kendalltau

from benchmarks.harness import demo_parser, show, write_result
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.ranking import prepare, score
from reshelf.modeling.merge import load_for_scoring
from reshelf.modeling.precision import Precision

CUT = 10
COMPUTED: dict[str, tuple[Precision, str]] = {
    "float32": ("float32", ""),
    "bfloat16": ("bfloat16", ""),
    "float32, weights rounded": ("float32", "weights"),
    "float32, what linear layers read rounded": ("float32", "inputs"),
}


def main() -> None:
    parser = demo_parser(__doc__)
    parser.add_argument("--lists", type=int, help="of the test lists; all of them where not given")
    args = parser.parse_args()
    data = load_dataset_folder(args.data, ["test"])
    lists = data.lists["test"][: args.lists]
    console = Console()
    computed: dict[str, list[np.ndarray]] = {}
    for name, (precision, rounds) in COMPUTED.items():
        with console.status(name):
            computed[name], size = _scores(args.model, precision, rounds, lists, data.items)
    truth, reference = Truth.of(lists), computed["float32"]
    rows: list[dict[str, Any]] = []
    for name, values in computed.items():
        gaps = np.abs(np.concatenate(values) - np.concatenate(reference))
        taus = [kendalltau(a, b).statistic for a, b in zip(values, reference, strict=True) if len(a) > 1]
        ndcg = ndcg_per_list([row.astype(np.float64) for row in values], truth, CUT)
        rows.append({
            "computed in": name,
            "Kendall's tau": float(np.nanmean(taus)),
            f"nDCG@{CUT}": float(np.nanmean(ndcg)),
            "median difference, log-odds": float(np.median(gaps)),
        })  # fmt: skip
    spread = float(np.mean([row.std() for row in reference]))
    show(f"{len(lists)} lists, whose scores have a standard deviation of {spread:.2f}", rows)
    served, weights, inputs = rows[1:]
    ratios = {
        "tau_bfloat16": served["Kendall's tau"],
        "ndcg_bfloat16_less_float32": served[f"nDCG@{CUT}"] - rows[0][f"nDCG@{CUT}"],
        "tau_weights_rounded": weights["Kendall's tau"],
        "tau_inputs_rounded": inputs["Kendall's tau"],
    }
    console.print(ratios)
    if args.lists is None:
        command = f'make bench NAME=rounding ARGS="--model {args.model} --data {args.data}"'
        sizes = {"lists": len(lists), "model": size, "standard deviation in a list": spread}
        console.print(f"written to {write_result('rounding', rows, ratios, sizes, command)}")


def _scores(
    folder: Path, precision: Precision, rounds: str, lists: list[RankingList], items: dict[str, Item]
) -> tuple[list[np.ndarray], str]:
    """Scores of each list, float32 [K], and what the model is."""
    trained, _ = load_for_scoring(folder, precision)
    layers = [one for one in trained.model.model.modules() if isinstance(one, torch.nn.Linear)]
    with torch.no_grad():
        for layer in layers if rounds else ():
            if rounds == "weights":
                layer.weight.copy_(_rounded(layer.weight))
            else:
                layer.register_forward_pre_hook(lambda _, args: (_rounded(args[0]), *args[1:]))
    builder = trained.builder(items)
    engine = TransformersEngine(trained.model)
    size = f"{trained.model.config.model_type}, {trained.model.num_parameters() / 1e6:.3g} M parameters"
    return [row for one in lists for row in score(engine, [prepare(builder, one)])], size


def _rounded(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.bfloat16).to(values.dtype)


if __name__ == "__main__":
    main()
