"""Loads batches, and finds the records that the table refuses.

To append or replace, a batch is loaded as a file; the server reports by a warning what it would skip or change, and
then the batch is taken back and inserted by statements, which stop at the first such record and undo themselves. Upserts
and deletes, and all loads where the server takes no files, are statements from the first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.mysql import cells
from adapters.mysql.cells import Faults
from adapters.mysql.opening import Server, code_of, said_by, translated
from adapters.mysql.types import MyColumn
from pipelines.sql.literals import name_of
from pipelines.tables.post import Work

if TYPE_CHECKING:
    from pymysql import Connection as Driver

STATEMENT_BYTES = 1 << 20
FILE_BYTES = 32 << 20
PACKET_BYTES = 1 << 16
SPARE_BYTES = 4096
"""Room in a packet for what stands around the rows."""
REFUSALS = {
    1048, 1062, 1136, 1216, 1217, 1261, 1262, 1263, 1264, 1265, 1292, 1364, 1365, 1366, 1367, 1369, 1406, 1411, 1416, 1441,
    1451, 1452, 1525, 1526, 1557, 1586, 1644, 1690, 1748, 1761, 1762, 1859, 3140, 3141, 3156, 3157, 3819, 3903, 4025, 4078,
}  # fmt: skip
"""Faults that speak of a record: null, duplicate, reference, out of range, check, a trigger's signal."""
NO_FILES = {1148, 1227, 2068, 3948, 4166}
"""Faults of a server that takes no files from its clients."""
NOT_NULL = 1048
PLACES_SINCE = (10, 7)
"""MariaDB tells since then at which row of a statement it stopped."""


@dataclass(frozen=True)
class Target:
    """The table to write, as the catalogue has it."""

    sql: str
    columns: Sequence[MyColumn]
    """Those that are written, in the order of the work."""
    keys: Sequence[str]
    has_other_keys: bool
    """Whether another unique index than that of the key may find a record."""


class Loader:
    """Loads batches into one table."""

    def __init__(self, server: Server, connection: Driver[Any], work: Work, target: Target) -> None:
        self._server = server
        self._connection = connection
        self._work = work
        self._target = target
        self._names = [name_of(column.name) for column in target.columns]
        with translated(server), connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet, version()")
            most, version = cursor.fetchall()[0]
        self._most_bytes = int(most) - SPARE_BYTES
        found = re.match(r"(\d+)\.(\d+)", version) if "MariaDB" in version else None
        self._tells_rows = found is not None and (int(found[1]), int(found[2])) >= PLACES_SINCE
        self._takes_files = work.mode in ("append", "replace")
        self._before, self._after = self._statement()

    def load(self, batch: pa.RecordBatch) -> Faults:
        """Loads a batch, and gives the faults of the records that are not."""
        found, faults = cells.fields(batch, self._target.columns, self._work.written)
        if self._work.mode in ("upsert", "delete"):
            faults.update(cells.missing_keys(batch, self._work.key))
        rows = np.arange(batch.num_rows)
        if faults:
            rows = np.setdiff1d(rows, np.fromiter(faults, np.int64))
        whole = max(1, int(FILE_BYTES * len(rows) / max(batch.nbytes, 1)))
        for begin in range(0, len(rows), whole):
            part = rows[begin : begin + whole]
            taken = [cells.Field(field.texts.take(pa.array(part)), field.sort, field.is_counted) for field in found]
            if not self._filed(taken):
                faults.update({int(part[row]): fault for row, fault in self._stated(taken).items()})
        return faults

    def _filed(self, fields: Sequence[cells.Field]) -> bool:
        """Whether the server has taken all rows as a file, each as it is."""
        if not self._takes_files:
            return False
        import pymysql

        text = cells.lines(fields, True)
        self._connection.query("SAVEPOINT file")
        try:
            taken, warnings = self._sent(fields, text)
        except pymysql.MySQLError as fault:
            code = code_of(fault)
            if code not in REFUSALS | NO_FILES:
                raise
            self._takes_files = code not in NO_FILES
            taken, warnings = -1, 1
        if taken == len(text) and not warnings:
            self._connection.query("RELEASE SAVEPOINT file")
            return True
        self._connection.query("ROLLBACK TO SAVEPOINT file")
        return False

    def _sent(self, fields: Sequence[cells.Field], text: pa.LargeStringArray) -> tuple[int, int]:
        """Sends lines as the file that a statement asks for: how many rows went in, and with how many warnings."""
        from pymysql.constants import COMMAND
        from pymysql.protocol import OKPacketWrapper

        places, sets = [], []
        for number, (name, field) in enumerate(zip(self._names, fields, strict=True)):
            if field.sort == "hex" or field.is_counted:
                places.append(f"@v{number}")
                value = f"unhex(@v{number})" if field.sort == "hex" else f"CAST(@v{number} AS UNSIGNED)"
                sets.append(f"{name} = {value}")
            else:
                places.append(name)
        sql = (
            f"LOAD DATA LOCAL INFILE 'records' INTO TABLE {self._target.sql} CHARACTER SET utf8mb4 "
            f"FIELDS TERMINATED BY x'09' ESCAPED BY x'5c' LINES TERMINATED BY x'0a' ({', '.join(places)})"
            f"{' SET ' if sets else ''}{', '.join(sets)}"
        )
        connection = self._connection
        connection._execute_command(COMMAND.COM_QUERY, sql)
        answer = connection._read_packet()
        if answer.is_load_local_packet():
            for begin, end in cells.chunks(text, FILE_BYTES):
                block = memoryview(_joined(text.slice(begin, end - begin), b"\n") + b"\n")
                for place in range(0, len(block), PACKET_BYTES):
                    connection.write_packet(bytes(block[place : place + PACKET_BYTES]))
            connection.write_packet(b"")
            answer = connection._read_packet()
        done = OKPacketWrapper(answer)
        return done.affected_rows, done.warning_count

    def _stated(self, fields: Sequence[cells.Field]) -> Faults:
        """Writes rows by statements; gives the faults of those that are refused."""
        text = cells.lines(fields, False)
        faults: Faults = {}
        waiting = list(reversed(cells.chunks(text, min(STATEMENT_BYTES, self._most_bytes))))
        while waiting:
            first, end = waiting.pop()
            rows = _joined(text.slice(first, end - first), b",")
            if len(rows) > self._most_bytes:
                words = f"needs {len(rows):,} bytes in a statement, more than the server's max_allowed_packet"
                faults[first] = ("refused", words)
                continue
            fault = self._executed(rows)
            if fault is None:
                continue
            place = first if end - first == 1 else self._place(fault, first, end)
            if place is None:
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]
                continue
            faults[place] = ("refused", self._message(fault, text, place))
            waiting += [part for part in ((place + 1, end), (first, place)) if part[0] < part[1]]
        return faults

    def _executed(self, rows: bytes, is_plain: bool = False) -> Exception | None:
        """Runs the statement for some rows: the fault of one of them, for which the server undoes all of it."""
        import pymysql

        try:
            self._connection.query(self._before + rows + (b"" if is_plain else self._after))
        except pymysql.MySQLError as fault:
            if code_of(fault) not in REFUSALS:
                raise
            return fault
        return None

    def _place(self, fault: Exception, first: int, end: int) -> int | None:
        """The record that a fault names, as a place from `first` to `end`."""
        if self._work.mode == "delete":
            return None
        found = re.search(r" at row (\d+)$", said_by(fault))
        number = int(found[1]) if found else 0
        if not number and self._tells_rows:
            with self._connection.cursor() as cursor:
                cursor.execute("GET DIAGNOSTICS CONDITION 1 @__row = ROW_NUMBER")
                cursor.execute("SELECT @__row")
                number = int(cursor.fetchall()[0][0] or 0)
        return first + number - 1 if 0 < number <= end - first else None

    def _message(self, fault: Exception, text: pa.LargeStringArray, place: int) -> str:
        """The server's words; where the guard of an upsert has spoken, what a plain insert says."""
        if self._target.has_other_keys and self._work.mode == "upsert" and code_of(fault) == NOT_NULL:
            self._connection.query("SAVEPOINT asked")
            told = self._executed(_joined(text.slice(place, 1), b","), is_plain=True)
            self._connection.query("ROLLBACK TO SAVEPOINT asked")
            fault = told or fault
        return re.sub(r" at row \d+$", "", said_by(fault))

    def _statement(self) -> tuple[bytes, bytes]:
        """What stands before and after the rows."""
        keys = [name_of(name) for name in self._target.keys]
        if self._work.mode == "delete":
            return f"DELETE FROM {self._target.sql} WHERE ({', '.join(self._names)}) IN (".encode(), b")"
        before = f"INSERT INTO {self._target.sql} ({', '.join(self._names)}) VALUES ".encode()
        if self._work.mode != "upsert":
            return before, b""
        sets = [f"{name} = VALUES({name})" for name in self._names if name not in keys]
        guard = " AND ".join(f"{key} <=> VALUES({key})" for key in keys)
        if self._target.has_other_keys:
            # another unique index may find another record, which must not be changed: null fits no column of the key
            sets = [f"{key} = IF({guard}, {key}, NULL)" for key in keys[:1]] + sets
        return before, f" ON DUPLICATE KEY UPDATE {', '.join(sets or [f'{keys[0]} = {keys[0]}'])}".encode()


def _joined(texts: pa.LargeStringArray, sign: bytes) -> bytes:
    """The texts with a sign between them, without an object for each."""
    lists = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    found: bytes = pc.binary_join(lists, pa.scalar(sign.decode(), pa.large_string()))[0].as_buffer().to_pybytes()
    return found
