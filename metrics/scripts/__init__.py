"""The metrics as Hugging Face `evaluate` metric scripts, one each: `evaluate.load("metrics/scripts/ndcg.py")`.

All take one sequence of scores per list, in first-stage order, and one of labels. They return the mean (None where no
list has a value), `per_list` values for the bootstrap (NaN where a list has none), `skipped`, the number of those, and
`unranked`, the number of lists whose scores are all equal.
"""
