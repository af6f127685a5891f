"""Ranking metrics, one ordering with ties, one bootstrap: what training, evaluation and benchmarks measure with.

Every metric is also a Hugging Face `evaluate` metric, one script each, with per-list values for the bootstrap.
"""
