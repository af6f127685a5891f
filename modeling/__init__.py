"""The cross-encoder: packing, shared-prefix attention, score, checkpoint."""
