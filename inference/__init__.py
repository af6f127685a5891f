"""Engines, the reranker and exports."""
