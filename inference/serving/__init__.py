"""The reranking service: HTTP in front, history store beside, the engine in a process of its own behind."""
