"""Which arm of an experiment was better, from served lists and what came of them."""
