"""Files: CSV, JSON lines, Parquet, Avro, Excel, XML and fixed width, on local paths, S3, SFTP, Google Cloud Storage and Azure."""

from adapters.file.connection import Connection
from adapters.file.get import Get
from adapters.file.post import Post

__all__ = ["Connection", "Get", "Post"]
