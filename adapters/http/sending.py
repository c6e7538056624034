"""Delivers the records of a batch: several requests under way, each answer read for what became of its records."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from adapters.http import loop
from adapters.http.client import Answer, Client, client
from adapters.http.connection import Connection
from adapters.http.parcels import Packed, Packer, Parcel
from adapters.http.verdicts import DELIVERED, REFUSED, UNAVAILABLE, Judge, Verdict
from pipelines.errors import FlowError, Interrupted, Invalid, Unavailable
from pipelines.node import Outcome, Part, Piece, Receipts, Rejects
from pipelines.scope import Scope
from pipelines.tables.post import record_keys
from pipelines.tables.relation import as_list

if TYPE_CHECKING:
    from adapters.http.post import Post

LEAST_IN_A_ROW = 3
"""So many requests in a row, or as many as are under way at once, must fail for good before the API counts as away."""


class Sender:
    """A post opened for one worker thread."""

    def __init__(self, post: Post, schema: pa.Schema, scope: Scope) -> None:
        self._post = post
        self._scope = scope
        self._connection = scope.connection(post.connection, Connection)
        self._packer = Packer(post, self._connection.address, scope.values, schema)
        self._judge = Judge(post.outcomes, post.results, post.response)
        self._gives = post.given_schema(schema)

    def put(self, batch: pa.RecordBatch) -> Outcome:
        """Delivers a batch.

        Raises:
            Interrupted: the API went away, or refuses the credentials; with what had become of the records sent before.
        """
        packed = self._packer(batch)
        sending = Sending(batch, packed)
        try:
            loop.run(self._send(sending))
        except FlowError as fault:
            raise Interrupted(fault, self._outcome(sending)) from fault
        why = next(iter(sending.failed.values()), "")
        if sending.is_away or (why and not sending.answers):
            raise Interrupted(Unavailable(why, asked_again=True), self._outcome(sending))
        for row, message in sending.failed.items():
            sending.refused[row] = ("unavailable", message)
        return self._outcome(sending)

    def close(self) -> Sequence[Part]:
        return ()

    def abandon(self) -> None:
        """What has been delivered stays delivered."""

    async def _send(self, sending: Sending) -> None:
        asking = client(self._connection, self._scope)
        lanes = self._lanes(sending.packed)
        workers = [asyncio.ensure_future(self._work(asking, lane, sending)) for lane in lanes]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _lanes(self, packed: Packed) -> list[Iterator[Parcel]]:
        """What each of the workers on the loop sends, one after the other: shared, or by key where order counts."""
        most = min(self._connection.limit.concurrent, len(packed.parcels))
        if not self._post.in_order:
            shared = iter(packed.parcels)
            return [shared] * most
        lanes: list[list[Parcel]] = [[] for _ in range(most if self._post.carries != "many" else min(most, 1))]
        for parcel in packed.parcels:
            lanes[hash(packed.keys[parcel.rows[0]]) % len(lanes)].append(parcel)
        return [iter(lane) for lane in lanes]

    async def _work(self, asking: Client, lane: Iterator[Parcel], sending: Sending) -> None:
        for parcel in lane:
            if sending.is_away:
                return
            await self._deliver(asking, parcel, sending)

    async def _deliver(self, asking: Client, parcel: Parcel, sending: Sending) -> None:
        """Sends a parcel, and again what of it is to be sent again: what was unavailable, or refused with others."""
        waiting, failed = deque([parcel]), 0
        policy = self._connection.retry
        while waiting:
            one = waiting.popleft()
            try:
                answer = await asking.ask(one.request, _as_it_is, self._judge.retried)
            except Unavailable as fault:
                sending.fail(one.rows, str(fault), self._connection.limit.concurrent)
                continue
            sending.answered(answer.seconds)
            if len(one.rows) > 1 and self._post.halves and self._judge.refuses_list(answer):
                middle = len(one.rows) // 2
                for rows in (one.rows[:middle], one.rows[middle:]):
                    waiting.append(self._packer.parcel(sending.packed, rows))
                continue
            left = sending.take(one.rows, self._verdicts(asking, answer, sending, one.rows))
            if left and (failed := failed + 1) >= policy.attempts:
                sending.refused.update({row: ("unavailable", message) for row, message in left.items()})
            elif left:
                await asyncio.sleep(policy.pause_seconds(failed))
                waiting.append(self._packer.parcel(sending.packed, list(left)))

    def _verdicts(self, asking: Client, answer: Answer, sending: Sending, rows: Sequence[int]) -> list[Verdict]:
        """What an answer means for its records; its words without secrets.

        Raises:
            Invalid: the credentials are refused: no record can be delivered.
        """
        found = self._judge.verdicts(answer, [sending.packed.keys[row] for row in rows])
        if answer.status in (401, 407) and found[0].kind != DELIVERED:
            fix = "check the connection's `auth` and its secrets"
            raise Invalid(asking.clean(f"{answer.address}: {found[0].message}; {fix}"))
        return [
            verdict
            if verdict.kind == DELIVERED
            else replace(verdict, message=asking.clean(f"{answer.address}: {verdict.message}"))
            for verdict in found
        ]

    def _outcome(self, sending: Sending) -> Outcome:
        """What became of the batch so far."""
        batch, rejects = sending.batch, {**sending.packed.unfit, **sending.refused}
        rows = sorted(sending.delivered)
        places = pa.array(rows, pa.int64())
        kept = batch.take(places)
        told = [sending.delivered[row] for row in rows]
        added = {
            name: pa.array([each[number] for each in told], pa.string())
            for number, name in enumerate(self._post.response)
        }
        columns = [added[field.name] if field.name in added else kept.column(field.name) for field in self._gives]
        out = pa.RecordBatch.from_arrays(columns, schema=self._gives)
        ids = next(iter(added.values()), None)
        receipts = Receipts(record_keys(kept, as_list(self._post.key)), ids, "ok", sending.milliseconds)
        bad = sorted(rejects)
        refused = Rejects(pa.array(bad, pa.int64()), [rejects[row][0] for row in bad], [rejects[row][1] for row in bad])
        return Outcome({"out": Piece(out, places)}, rejects=refused if bad else None, receipts=receipts)


@dataclass
class Sending:
    """One batch on its way. Only the loop writes it while it is sent."""

    batch: pa.RecordBatch
    packed: Packed
    delivered: dict[int, tuple[str | None, ...]] = field(default_factory=dict)
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    answers: int = 0
    is_away: bool = False
    _in_a_row: int = 0
    _seconds: float = 0.0

    @property
    def milliseconds(self) -> float:
        """How long an answer took on average."""
        return self._seconds * 1000 / self.answers if self.answers else 0.0

    def answered(self, seconds: float) -> None:
        self.answers += 1
        self._in_a_row = 0
        self._seconds += seconds

    def fail(self, rows: Sequence[int], message: str, concurrent: int) -> None:
        """A parcel was sent again and again in vain; after some in a row the API is away."""
        self.failed.update(dict.fromkeys(rows, message))
        self._in_a_row += 1
        self.is_away = self.is_away or self._in_a_row >= max(concurrent, LEAST_IN_A_ROW)

    def take(self, rows: Sequence[int], verdicts: Sequence[Verdict]) -> dict[int, str]:
        """Keeps what became of some rows; gives those to be sent again."""
        left: dict[int, str] = {}
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict.kind == DELIVERED:
                self.delivered[row] = verdict.told
            elif verdict.kind == REFUSED:
                self.refused[row] = ("refused", verdict.message)
            else:
                assert verdict.kind == UNAVAILABLE
                left[row] = verdict.message
        return left


def _as_it_is(answer: Answer) -> Answer:
    return answer
