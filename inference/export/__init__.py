"""`reshelf export`: a merged checkpoint for other libraries, verified with each of them."""
