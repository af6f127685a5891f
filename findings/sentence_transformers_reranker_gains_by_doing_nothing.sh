#!/usr/bin/env bash
# Guess: CrossEncoderRerankingEvaluator(always_rerank_positives=False), the realistic setting of its page, reports for a reranker that leaves the
#   retriever's order as it is what it reports for the retriever: base_ndcg@10.
# Happens: positives that the retriever missed lower the base figure alone. They are put behind the list for the base, and are not there for the
#   reranker, whose ideal is then of what was found: with one of three positives retrieved, on rank 1, the retriever has an nDCG of 0.47
#   and the reranker that does nothing 1.0. The model card states the difference as what was gained.
# Source: sentence-transformers 6.2.0, cross_encoder.evaluation.CrossEncoderRerankingEvaluator ("note that the maximum score is 1.0 by
#   default"; "can be toggled off"); an open change of September 2026 (#4054) would count them. Compare with a stand-in that gives −rank.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.19.0 sentence-transformers==6.2.0 numpy==2.3.5 scikit-learn==1.9.1
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import numpy as np
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

print("sentence-transformers", importlib.metadata.version("sentence-transformers"))


class Nothing:
    """A stand-in for a CrossEncoder that keeps the order it is given."""

    class model_card_data:
        set_evaluation_metrics = staticmethod(lambda *some, **named: None)

    def predict(self, pairs, **named):
        return np.arange(len(pairs), 0, -1.0)


retrieved = ["coat 1", *(f"hat {place}" for place in range(9))]
found = {}
for positives in (["coat 1"], ["coat 1", "coat 2", "coat 3"]):
    evaluator = CrossEncoderRerankingEvaluator(
        [{"query": "coat", "positive": positives, "documents": retrieved}], always_rerank_positives=False, write_csv=False
    )
    figures = evaluator(Nothing())
    found[len(positives)] = [round(float(figures[name]), 2) for name in ("base_ndcg@10", "ndcg@10", "base_map", "map")]
    print(f"{len(positives)} positives, 1 retrieved: nDCG@10 {found[len(positives)][0]} -> {found[len(positives)][1]}, "
          f"MAP {found[len(positives)][2]} -> {found[len(positives)][3]}")
assert found[1] == [1.0, 1.0, 1.0, 1.0]
assert found[3][0] < 0.7 and found[3][1] == 1.0 and found[3][2] < 0.6 and found[3][3] == 1.0
PYTHON
