"""One system a file or folder: its connection, its get and post nodes. Imports pipelines only."""
