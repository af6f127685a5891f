"""`reshelf batch`: Parquet files of lists in, scores and order out, resumable."""
