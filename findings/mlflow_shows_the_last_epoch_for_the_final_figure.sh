#!/usr/bin/env bash
# Guess: the metric of a run, in its table, in search_runs and in run.data.metrics, is the one that was logged last ("the metric value with the
#   latest timestamp is returned", says the page of RunData.metrics): after ten epochs the best checkpoint is loaded, measured, and
#   log_metric("ndcg", …) is what the run is known by.
# Happens: it is the one of the highest step, whenever it was logged. A call without step= has step 0, so the run keeps the nDCG of its last epoch,
#   and search_runs(order_by=["metrics.ndcg DESC"]) picks the run with the better last epoch, not the one with the better model. A run that is
#   resumed with its steps from 1 keeps the figure from before until it has passed it. The value is stored, and seen in the history alone.
# Source: mlflow 3.17.2, mlflow.store.tracking.sqlalchemy_store, _update_latest_metrics_if_necessary ((step, timestamp, value) are compared). A name
#   of its own for the final figure ("final_ndcg"), or a step above the others.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1 pandas==3.1.1 numpy==2.4.6
cd "$folder"
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging

import mlflow

logging.disable(logging.INFO)
print("mlflow", mlflow.__version__)
mlflow.set_tracking_uri("sqlite:///runs.db")
mlflow.set_experiment("reranker")
client = mlflow.MlflowClient()
# The first one overfits after epoch 4; the best checkpoint is what ships.
epochs = {"overfits": [0.30, 0.40, 0.47, 0.50, 0.48, 0.44, 0.40, 0.36, 0.33, 0.30], "steady": [0.30 + 0.01 * n for n in range(1, 11)]}
runs = {}
for name, curve in epochs.items():
    with mlflow.start_run(run_name=name) as run:
        for epoch, ndcg in enumerate(curve, 1):
            mlflow.log_metric("ndcg", ndcg, step=epoch)
        mlflow.log_metric("ndcg", max(curve))  # of the best checkpoint
        mlflow.log_metric("final_ndcg", max(curve))
    runs[name] = run.info.run_id
    last = max(client.get_metric_history(runs[name], "ndcg"), key=lambda metric: metric.timestamp)
    shown = client.get_run(runs[name]).data.metrics
    print(f"{name}: logged last {last.value:.2f} (step {last.step}), last epoch {curve[-1]:.2f}, shown {shown}")
    assert last.step == 0
    assert shown["ndcg"] == curve[-1]
    assert shown["final_ndcg"] == max(curve)
assert max(epochs["overfits"]) > max(epochs["steady"])
best = {key: mlflow.search_runs(order_by=[f"metrics.{key} DESC"])["tags.mlflow.runName"][0] for key in ("ndcg", "final_ndcg")}
print("best run by", best)
assert best == {"ndcg": "steady", "final_ndcg": "overfits"}
assert len(mlflow.search_runs(filter_string="metrics.ndcg >= 0.5")) == 0
with mlflow.start_run(run_id=runs["steady"]):  # resumed, on better data
    for epoch in range(1, 4):
        mlflow.log_metric("ndcg", 0.7, step=epoch)
resumed = client.get_run(runs["steady"]).data.metrics["ndcg"]
print("resumed, three epochs of 0.70: shown", resumed)
assert resumed == epochs["steady"][-1]
with mlflow.start_run(run_id=runs["overfits"]):
    mlflow.log_metric("ndcg", 0.5, step=11)
assert client.get_run(runs["overfits"]).data.metrics["ndcg"] == 0.5
PYTHON
