"""Sends the staged records of a post in one transaction, and tells of each what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from adapters.kafka import topics
from adapters.kafka.client import Admin
from adapters.kafka.connection import Connection
from adapters.kafka.packing import Packer
from adapters.kafka.sending import Sending
from adapters.kafka.transactions import Line, group_of, last_token, mark, transaction_id
from pipelines.node import Outcome, Part
from pipelines.scope import Scope

if TYPE_CHECKING:
    from adapters.kafka.post import Post


class KafkaPublication:
    """The staged records of one post on their way into a topic."""

    def __init__(self, post: Post, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> None:
        self._post = post
        self._parts = parts
        self._schema = schema
        self._scope = scope
        self._token = token
        self._connection = scope.connection(post.connection, Connection)
        self._line: Line | None = None
        self._is_settled = False
        self._is_done = False

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """Sends everything and tells each batch's outcome; nothing, where this token is already published."""
        if not sum(part.rows for part in self._parts):
            self._is_settled = self._is_done = True
            return
        sending = self._sent()
        if sending is not None:
            yield from sending.outcomes()
        self._is_settled = True

    def _sent(self) -> Sending | None:
        """Everything sent, the transaction open; None where it is committed already."""
        post = self._post
        admin = Admin(self._connection, self._scope)
        topics.described(admin, [post.topic])
        limits = topics.limits(admin, post.topic)
        packer = Packer(post, self._schema, self._scope, limits.message_bytes, needs_key=limits.is_compacted)
        name = transaction_id(post, self._scope, self._token) if post.transaction else None
        sending = Sending(post, self._parts, packer, self._scope.staging)
        if not post.transaction:
            self._send_openly(sending, limits)
            return sending
        name = transaction_id(post, self._scope, self._token)
        alone = False
        while True:
            line = self._line = Line(post, self._scope, name, limits, alone=alone)
            line.begin()
            if last_token(post, self._scope, self._token) == self._token:
                self._is_done = True
                line.close()
                return None
            refused = sending(line)
            if not refused:
                break
            line.close()  # a transaction cannot be committed in which a record was refused: without it, once more
            sending.leave_out(refused, alone=alone)
            alone = True  # so that no other record is refused with it
        offsets, group = [mark(post, self._token)], group_of(self._connection, self._scope, name)
        line.call(line.producer.send_offsets_to_transaction, offsets, group, self._connection.timeout_seconds)
        return sending

    def _send_openly(self, sending: Sending, limits: topics.Limits) -> None:
        line = self._line = Line(self._post, self._scope, None, limits)
        refused = sending(line)
        if refused:
            sending.leave_out(refused, alone=False)
            line.close()
            line = self._line = Line(self._post, self._scope, None, limits, alone=True)
            refused = sending(line, only=set(refused) - sending.left_out.keys())
            sending.leave_out(refused, alone=True)

    def commit(self) -> None:
        """Commits; where nothing is sent in this process, as after a crash, sends it first."""
        if not self._is_settled:
            for _ in self.settle():
                pass
        if self._line is not None and not self._is_done:
            if self._post.transaction:
                self._line.call(self._line.producer.commit_transaction, self._connection.timeout_seconds)
            self._is_done = True
            self._line = None

    def abandon(self) -> None:
        if self._line is not None and not self._is_done:
            self._line.close()
        self._line = None
        self._is_done = True
