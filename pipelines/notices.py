"""Sends what a notify node has to say when everything else is published: each message once, as far as anybody knows.

What was sent is written down in the run's own folder, message by message, so that a run that is taken up again does not
send it once more; and, for the limit of a connection, with its time in the project's `notices.db`.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines import journal
from pipelines.errors import Failed, FlowError, Invalid, Unavailable
from pipelines.messages import Limit, Message, Patience, Sends
from pipelines.node import Outcome, Part, Piece, Receipts, Rejects
from pipelines.records import without_ids
from pipelines.scope import Scope
from pipelines.tables.spool import in_order
from pipelines.wording import Wording

NOT_SENT = "not_sent"
"""The reject code of a record whose message could not be sent."""
HISTORY = "notices.db"
DONE = "done"
HELD = "held"
"""Stands for the records whose message would be one too many."""
_NO_ADDRESS = re.compile(r"[\s,;<>\x00-\x1f]")


@dataclass
class Notice:
    """One message to be: to whom, about how many records, and the first of them."""

    to: tuple[str, ...]
    count: int = 0
    first: list[Mapping[str, object]] = field(default_factory=list)
    fault: str = ""
    """Why it was not sent."""
    id: str = ""


class Notices:
    """All messages of one node in a run, as a publication."""

    def __init__(
        self, name: str, connection: Sends, wording: Wording, on_error: str, parts: Sequence[Part], scope: Scope
    ) -> None:
        """`name` is the connection's."""
        self._name, self._connection, self._wording, self._on_error = name, connection, wording, on_error
        self._parts, self._scope = parts, scope
        self._folder = scope.staging / "notices" / scope.node
        self._sleep: Callable[[float], None] = time.sleep
        self.warnings: list[str] = []
        """What could not be sent, in sentences."""

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """Sends all messages, and tells of each record whether its own was sent."""
        notices: dict[object, Notice] = {}
        for _batch, _places in self._sorted(notices):
            pass
        for notice in notices.values():
            self._send(notice)
        for batch, places in self._sorted({}):
            yield batch, self._outcome(without_ids(batch), places, list(notices.values()))

    def commit(self) -> None:
        """Writes down that everything is sent and told."""
        journal.write(self._folder / DONE, True, durable=True)

    def abandon(self) -> None:
        """What was sent cannot be taken back."""

    def _sorted(self, notices: dict[object, Notice]) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Each batch with the number of the message that each record belongs to. Fills `notices`, the same each time."""
        seen = 0
        numbers: dict[object, int] = {}
        for batch in in_order(self._parts):
            plain = without_ids(batch)
            keys = self._wording.keys(plain, seen)
            seen += plain.num_rows
            places = np.empty(plain.num_rows, dtype=np.int64)
            wanted: list[int] = []
            for row, key in enumerate(keys):  # a message each, or one for many: the few that are shown are picked here
                of = key if key in numbers or len(numbers) < self._wording.messages else HELD
                if of not in numbers:
                    numbers[of] = len(numbers)
                    notices[of] = self._made(of)
                keys[row], places[row], notice = of, numbers[of], notices[of]
                if notice.count < self._wording.rows:
                    wanted.append(row)
                notice.count += 1
            for row, record in zip(wanted, plain.take(pa.array(wanted, pa.int64())).to_pylist(), strict=True):
                notices[keys[row]].first.append(record)
            yield batch, places

    def _made(self, key: object) -> Notice:
        if key != HELD:
            return Notice(self._wording.recipients(key))
        return Notice(
            (), fault=f"{self._wording.messages:,} messages were sent, and `messages` allows no more in a run"
        )

    def _send(self, notice: Notice) -> None:
        if notice.fault:
            self._warn(notice)
            return
        subject, body = self._wording.message(notice.first, notice.count, self._scope)
        recipients = [(one,) for one in notice.to] if self._connection.takes_recipients() else [()]
        faults = []
        for to in recipients:
            message = Message(subject, body, to)
            notice.id = _id_of(message)
            try:
                self._send_once(message, notice.id)
            except (Unavailable, Invalid) as fault:
                faults.append(f"{', '.join(to)}: {fault}" if to else str(fault))
                if self._on_error == "fail":
                    raise self._failed(fault) from fault
        if faults:
            notice.fault = "; ".join(faults)
            self._warn(notice)

    def _warn(self, notice: Notice) -> None:
        about = "1 record" if notice.count == 1 else f"{notice.count:,} records"
        self.warnings.append(f"a message about {about} was not sent: {notice.fault}")

    def _failed(self, fault: FlowError) -> FlowError:
        words = f"a message could not be sent: {fault}"
        return Unavailable(words, asked_again=True) if isinstance(fault, Unavailable) else Failed(words)

    def _send_once(self, message: Message, name: str) -> None:
        """Sends a message, unless an earlier process of this run has."""
        if journal.read(self._folder / name):
            return
        for to in message.to:
            if _NO_ADDRESS.search(to) or not to:
                raise Invalid(f"{to!r:.100} is no address")
        history = History(self._scope.shared / HISTORY, self._name)
        history.refuse_more(self._connection.limits())
        self._patiently(message, self._connection.patience())
        journal.write(self._folder / name, True, durable=True)
        history.add()

    def _patiently(self, message: Message, patience: Patience) -> None:
        for attempt in range(1, patience.attempts + 1):
            try:
                self._connection.send(message, self._scope)
                return
            except Unavailable:
                if attempt == patience.attempts:
                    raise
                self._sleep(patience.first_seconds * 2 ** (attempt - 1))

    def _outcome(self, batch: pa.RecordBatch, places: np.ndarray, notices: Sequence[Notice]) -> Outcome:
        faults = [notice.fault for notice in notices]
        bad = np.flatnonzero(np.array([bool(fault) for fault in faults])[places])
        good = np.setdiff1d(np.arange(batch.num_rows), bad)
        rows = pa.array(good, pa.int64())
        ids = pa.array([notice.id for notice in notices], pa.string()).take(pa.array(places[good]))
        out = {"out": Piece(batch.take(rows), rows)}
        receipts = Receipts(None, ids, "sent")
        if self._on_error != "reject" or not len(bad):
            return Outcome(out, filtered=len(bad), receipts=receipts)
        words = [faults[places[row]] for row in bad]
        refused = Rejects(pa.array(bad, pa.int64()), [NOT_SENT] * len(bad), words)
        return Outcome(out, rejects=refused, receipts=receipts)


def is_done(scope: Scope) -> bool:
    """Whether all that a node has to say in this run is said."""
    return bool(journal.read(scope.staging / "notices" / scope.node / DONE))


class History:
    """When a project has sent messages by a connection, for its limit: shared by all runs, also those of other processes."""

    def __init__(self, path: Path, connection: str, clock: Callable[[], float] = time.time) -> None:
        self._path, self._connection, self._clock = path, connection, clock

    def refuse_more(self, limit: Limit) -> None:
        """Raises `Invalid` where as many were sent as may be."""
        with closing(self._opened()) as database:
            since = self._clock() - limit.seconds
            database.execute("DELETE FROM sent WHERE connection = ? AND at < ?", (self._connection, since))
            ((count,),) = database.execute("SELECT count(*) FROM sent WHERE connection = ?", (self._connection,))
        if count >= limit.messages:
            raise Invalid(
                f"connection {self._connection!r} has sent {count:,} messages in the last {limit.seconds:,.0f} seconds, "
                f"and its `limit` allows no more"
            )

    def add(self) -> None:
        """Writes down that a message was sent."""
        with closing(self._opened()) as database:
            database.execute("INSERT INTO sent VALUES (?, ?)", (self._connection, self._clock()))

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        database.execute("CREATE TABLE IF NOT EXISTS sent (connection TEXT, at REAL)")
        return database


def _id_of(message: Message) -> str:
    text = "\0".join([message.subject, message.body, *message.to])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
