"""One loss per file. Those on labels are functions of one shape:

    loss(scores, labels, mask, weights, inverse_propensity) -> LossSum(sum, weight)

scores float32 [B, K] (raw log-odds, padded), labels [B, K] (grades 0 … 3), mask bool [B, K] (real candidates), weights
float32 [B] (one per list), inverse_propensity float32 [B, K] (1 / the probability that the shopper examined the
candidate, of those with a label above 0; 1 elsewhere, and where it is unknown). Those on a teacher's scores are

    loss(scores, teacher, mask, weights) -> LossSum(sum, weight)

with teacher float32 [B, K]. `sum` adds up the weighted losses of the lists that teach something, `weight` their weights
(of `bce` and `teacher_bce`: of all candidates of all lists), and the trainer divides once per optimizer step, whatever
share of the lists a forward pass or a process had. A loss never depends on padding, nor on the order of candidates.

| your labels | loss |
| --- | --- |
| one purchase or click per list, or a few | `listnet` (the default) |
| grades from several people or events, the top counts | `lambda_loss` |
| only which of two was preferred | `ranknet` |
| whole lists in a known order | `list_mle`, `position_aware_list_mle` |
| single candidates, scores must be probabilities | `bce` |
| scores of a better, slower model | `kl`; `margin_mse` on its scale; `teacher_bce` for its probabilities |
"""
