"""Kafka: reads topics between offsets, partitions in parallel, and delivers in one transaction."""

from adapters.kafka.connection import Connection
from adapters.kafka.get import Get
from adapters.kafka.post import Post

__all__ = ["Connection", "Get", "Post"]
