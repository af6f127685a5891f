"""The systems a reranker is compared with, one file each. A system has a `name` and `scores(data, lists)`."""
