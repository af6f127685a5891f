"""Engines: prompts in, raw log-odds out; all with the same scores."""
