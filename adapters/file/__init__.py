"""Files: CSV, JSON lines, Parquet, Avro and fixed width, on local paths."""

from adapters.file.get import Get
from adapters.file.post import Post

__all__ = ["Get", "Post"]
