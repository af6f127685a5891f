"""Reshelf: personalised reranking of shop search with an LLM cross-encoder that reads a list as one sequence."""

from __future__ import annotations

__version__ = "0.1.0"
