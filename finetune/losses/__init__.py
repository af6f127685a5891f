"""One loss per file. Those on labels are functions of one shape:

    loss(scores, labels, mask, weights, inverse_propensity) -> scalar

scores float32 [B, K] (raw log-odds, padded), labels [B, K] (grades 0 … 3), mask bool [B, K] (real candidates), weights
float32 [B] (one per list), inverse_propensity float32 [B, K] (1 / the probability that the shopper looked at the
candidate, of those with a label above 0; 1 elsewhere, and where it is unknown). Those on a teacher's scores are

    loss(scores, teacher, mask, weights) -> scalar

with teacher float32 [B, K]. All are weighted means over the lists that teach something, and 0 with gradient 0 where
none does; `bce` and `teacher_bce` over all candidates of all lists. A loss never depends on padding, nor on the order
of candidates.
"""
