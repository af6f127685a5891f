#!/usr/bin/env bash
# Guess: BootStrapper(RetrievalMRR(), quantile=…) gives the interval of the MRR: it draws queries, or refuses metrics whose rows belong
#   together; in any case the interval lies about the metric itself.
# Happens: it draws rows. A query loses its wanted product in every third draw and then counts 0, others lose competitors: the 95 %
#   interval of an MRR of 0.69 is 0.43 to 0.50, and that of the nDCG likewise. Beside another system's figure without an interval, or
#   one measured over queries, a system looks certainly worse that is not; and the more queries, the surer.
# Source: torchmetrics 1.9.0, wrappers/bootstrapping.py; its page: "all input tensors are resampled along the first dimension", of
#   retrieval nothing. Draw queries yourself, as `reshelf evaluate` does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchmetrics==1.9.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
import torchmetrics
from torchmetrics.retrieval import RetrievalMRR, RetrievalNormalizedDCG
from torchmetrics.wrappers import BootStrapper

print("torchmetrics", torchmetrics.__version__)
torch.manual_seed(0)
queries, products = 300, 10
of_query = torch.arange(queries).repeat_interleave(products)
wanted = torch.zeros(queries, products, dtype=torch.long)
wanted[torch.arange(queries), torch.randint(0, products, (queries,))] = 1
scores = torch.rand(queries, products) + wanted * 0.5
bounds = torch.tensor([0.025, 0.975])
for kind in (RetrievalMRR, RetrievalNormalizedDCG):
    metric, drawn = kind(), BootStrapper(kind(), num_bootstraps=20, quantile=bounds)
    for one in (metric, drawn):
        one.update(scores.flatten(), wanted.flatten(), indexes=of_query)
    value, (low, high) = float(metric.compute()), drawn.compute()["quantile"].tolist()
    each = kind(aggregation=lambda values, dim: values)
    each.update(scores.flatten(), wanted.flatten(), indexes=of_query)
    values = each.compute()
    means = torch.stack([values[torch.randint(0, queries, (queries,))].mean() for _ in range(1000)])
    right = torch.quantile(means, bounds).tolist()
    print(f"{kind.__name__:22} {value:.3f}, interval {low:.3f} to {high:.3f}; of drawn queries {right[0]:.3f} to {right[1]:.3f}")
    assert high < value - 0.1
    assert right[0] < value < right[1]
PYTHON
