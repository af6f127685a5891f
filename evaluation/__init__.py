"""Metrics, the systems the reranker is compared with, and reports."""
