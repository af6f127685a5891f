#!/usr/bin/env bash
# Guess: MAP@10 of a table of shoppers, products, scores and clicks goes by the scores, as precision@k and nDCG@k do; in which order the rows
#   stand (of the log, by product, after a merge) changes nothing; and no precision is above 1.
# Happens: whether the product at place k was wanted is read from the row that stands last in the table among those of places 1 to k. With each
#   list's rows from best to worst one set of scores has the MAP that scikit-learn gives, 0.66; shuffled 0.85, from worst to best 1.04,
#   with clicks below the rest (a join of views and clicks) 1.50, above it 0.35. So two models whose tables come from different jobs are not
#   compared, and more than 1 is seen only at the ends. MAR likewise. Products of equal scores share a place, 1.5 cut to 1:
#   precision@1 of two wanted ones is 2.0.
# Source: evidently 0.7.23, evidently.metrics.MAP and MAR, by legacy.metrics.recsys.precision_recall_k (target.agg(["sum", "last"])), and
#   legacy.calculations.recommender_systems.collect_dataset (rank(…).astype(int)). Sort by score first, as below, and make scores differ.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# Without the packages of its server, tests and other checks, which are most of the download.
"$folder/venv/bin/pip" install -q --no-deps evidently==0.7.23 numpy==1.26.4 pandas==2.3.3 scipy==1.17.1 scikit-learn==1.9.1 plotly==5.24.1 \
    nltk==3.10.4 litestar==2.25.0 PyYAML==6.0.4 annotated-types==0.8.0 anyio==4.16.0 certifi==2026.10.19.post1 charset-normalizer==3.5.3 \
    cloudpickle==3.1.3 defusedxml==0.7.1 deprecation==2.1.0 fsspec==2026.9.0 idna==3.20 joblib==1.6.0 msgspec==0.23.0 multidict==7.2.1 \
    multipart==2.0.1 mypy_extensions==1.2.0 narwhals==2.29.0 opentelemetry-proto==1.45.2 packaging==26.4 protobuf==7.36.2 pydantic==2.14.4 \
    pydantic_core==2.50.5 python-dateutil==2.9.0.post0 six==1.17.0 pytz==2025.2 tzdata==2025.2 regex==2026.11.19 requests==2.34.2 rich==15.0.0 \
    sniffio==1.3.1 threadpoolctl==3.8.0 typing-inspect==0.9.0 typing-inspection==0.4.5 typing_extensions==4.16.0 ujson==6.1.0 urllib3==2.8.0 \
    uuid6==2025.0.1
cd "$folder"
export DO_NOT_TRACK=1 OPENBLAS_NUM_THREADS=1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import evidently
import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Recsys, Report
from evidently.metrics import MAP, NDCG, PrecisionTopK
from sklearn.metrics import average_precision_score

print("evidently", evidently.__version__)
ranking = DataDefinition(ranking=[Recsys(user_id="shopper", item_id="product", target="click", prediction="score")])


def figures(rows, k):
    report = Report([MAP(k=k), NDCG(k=k), PrecisionTopK(k=k)]).run(Dataset.from_pandas(rows, data_definition=ranking), None)
    return {metric["metric_name"].partition("(")[0]: metric["value"]["value"][k - 1] for metric in report.dict()["metrics"]}


chance = np.random.default_rng(0)
lists, size = 200, 10
rows = pd.DataFrame({"shopper": np.repeat(np.arange(lists), size), "product": np.tile(np.arange(size), lists)})
rows["click"] = (chance.random(len(rows)) < 0.3).astype(int)
rows["score"] = rows["click"] + chance.normal(size=len(rows))
rows = rows[rows.groupby("shopper")["click"].transform("sum") > 0].reset_index(drop=True)
right = np.mean([average_precision_score(some["click"], some["score"]) for _, some in rows.groupby("shopper")])
print(f"scikit-learn: MAP {right:.3f}")
orders = {
    "best first": rows.sort_values("score", ascending=False),
    "worst first": rows.sort_values("score"),
    "shuffled": rows.sample(frac=1, random_state=0),
    "clicks last": rows.sort_values("click"),
    "clicks first": rows.sort_values("click", ascending=False),
}
found = {name: figures(some, size) for name, some in orders.items()}
for name, some in found.items():
    print(f"{name}:", {metric: round(float(value), 3) for metric, value in some.items()})
assert abs(found["best first"]["MAP"] - right) < 1e-9
assert found["shuffled"]["MAP"] > right + 0.1
assert found["worst first"]["MAP"] > 1 and found["clicks last"]["MAP"] > 1
assert found["clicks first"]["MAP"] < right / 1.5
for some in found.values():
    assert abs(some["NDCG"] - found["best first"]["NDCG"]) < 1e-9
    assert some["PrecisionTopK"] == found["best first"]["PrecisionTopK"]
equal = pd.DataFrame({"shopper": 1, "product": [1, 2, 3, 4], "click": [1, 1, 0, 0], "score": [0.9, 0.9, 0.2, 0.1]})
top = figures(equal, 1)
print("two wanted products with one score, at 1:", top)
assert top["PrecisionTopK"] == top["NDCG"] == 2
PYTHON
