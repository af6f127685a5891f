"""The server's engines: processes kept alive, the queue in front of each, and the rerankers that share them."""
