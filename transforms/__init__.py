"""One verb a file. Imports pipelines only."""
