"""What a ranking list is, and where lists come from. Knows nothing of prompts or models."""
