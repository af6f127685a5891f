"""Training: the base language model and the reranker."""
