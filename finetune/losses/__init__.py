"""One loss per file. Each is a function of one shape:

    loss(scores, labels, mask, weights) -> scalar

scores float32 [B, K] (raw log-odds, padded), labels float32 [B, K] (grades), mask bool [B, K] (real candidates),
weights float32 [B] (one per list). A loss never depends on the order of candidates unless its docstring says so.
"""
