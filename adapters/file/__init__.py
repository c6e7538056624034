"""Files: CSV, JSON lines and Parquet, on local paths."""

from adapters.file.get import Get
from adapters.file.post import Post

__all__ = ["Get", "Post"]
