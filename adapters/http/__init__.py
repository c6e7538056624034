"""HTTP APIs: reads them page by page and delivers to them record by record, declared rather than programmed."""

from adapters.http.connection import Connection
from adapters.http.get import Get
from adapters.http.post import Post

__all__ = ["Connection", "Get", "Post"]
