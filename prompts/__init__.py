"""How a ranking list becomes token ids."""
