"""Ranking metrics as Hugging Face `evaluate` metrics, one script each, with per-list values for the bootstrap."""
