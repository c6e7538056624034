"""Files: CSV, JSON lines and Parquet, on local paths."""
