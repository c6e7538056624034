"""Finds the records that a table refuses where they are many: the server tries each one by itself, in one call.

A function of this session takes the records in their order, each in a transaction inside the transaction, and gives the
faults. A record costs some 20 µs there, where asking for each from here costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adapters.postgres.opening import Server, translated
from pipelines.sql.literals import name_of, quoted

if TYPE_CHECKING:
    from psycopg import Connection, Error

ORDER = "__order"
"""A staged record's place in the order of the source."""
RAW = "__processflow_raw"
"""The temporary table of records as texts."""
DROPPED = "the table dropped it without a message, as a trigger can"
FEW = 16
"""So many refused records are found one after the other."""
SHARE = 1000
"""From one refused among so many on, the server tries each by itself."""
_NOT_OF_A_RECORD = (
    *(
        "00",
        "01",
        "02",
        "03",
        "08",
        "0A",
        "0B",
        "0F",
        "0L",
        "0P",
        "0Z",
        "20",
        "21",
        "24",
        "25",
        "26",
        "28",
        "2B",
        "2D",
        "2F",
    ),
    *("34", "3B", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV", "XX"),
)
"""Classes of SQLSTATE that speak of anything but a record; what a trigger raises may be in a class of its own
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
POLICY = "42501"
"""No privilege, which a row's policy says too."""


def is_refusal(sqlstate: str | None, *, has_policies: bool) -> bool:
    """Whether a fault speaks of a record: its values, a constraint, a view's check, a policy, a trigger's own word."""
    if not sqlstate:
        return False
    return sqlstate[:2] not in _NOT_OF_A_RECORD or (has_policies and sqlstate == POLICY)


def are_many(refused: int, passed: int) -> bool:
    """Whether so many were refused among those that were tried that the rest is better tried one by one."""
    return refused >= FEW and refused * SHARE > passed


def message(fault: Error) -> str:
    """The server's words, with its detail where that names a key."""
    return worded(fault.diag.message_primary or str(fault).split("\n", 1)[0], fault.diag.message_detail)


def worded(words: str, detail: str | None) -> str:
    return f"{words}: {detail}" if detail and detail.startswith("Key ") else words


class Trial:
    """Tries records one by one in the server.

    Args:
        must_count: Whether a statement that changes nothing has dropped its record.
        has_policies: Whether rows may be refused for want of a privilege.
    """

    def __init__(self, server: Server, connection: Connection[Any], *, must_count: bool, has_policies: bool) -> None:
        self._server = server
        self._connection = connection
        self._must_count = must_count
        self._has_policies = has_policies
        self._is_possible: bool | None = None
        self._has_raw = False

    def is_possible(self) -> bool:
        """Whether the server has the language that it takes."""
        if self._is_possible is None:
            with translated(self._server):
                found = self._connection.execute(
                    b"SELECT 1 FROM pg_language WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE')"
                ).fetchall()
            self._is_possible = bool(found)
        return self._is_possible

    def keep(self, texts: bytes, count: int) -> None:
        """Puts records into `RAW`, as CSV with a line of names: texts, and their place in `ORDER`."""
        columns = [f"c{number}" for number in range(count)]
        with translated(self._server):
            if not self._has_raw:
                made = ", ".join([*(f"{name} text" for name in columns), f"{ORDER} bigint PRIMARY KEY"])
                self._connection.execute(f"CREATE TEMP TABLE {RAW} ({made}) ON COMMIT DROP".encode())
                self._has_raw = True
            self._connection.execute(f"TRUNCATE pg_temp.{RAW}".encode())
            sql = f"COPY pg_temp.{RAW} ({', '.join([*columns, ORDER])}) FROM STDIN (FORMAT csv, HEADER)"
            with self._connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
                copy.write(texts)

    def insert(self, into: str, columns: Sequence[str], places: Sequence[str], first: int, end: int) -> dict[int, str]:
        """Inserts what `keep` has put there, with the place in the column `places`, if any; gives why some are refused.

        A text becomes a value as in COPY: an assignment asks the type's input function.
        """
        fields = ", ".join(f"__pf_row.{name}" for name in columns)
        texts = ", ".join(f"c{number}" for number in range(len(columns)))
        values = ", ".join([fields, *("__pf_place" for _ in places)])
        statement = (
            f"SELECT {texts} INTO {fields} FROM pg_temp.{RAW} WHERE {ORDER} = __pf_place; "
            f"INSERT INTO {into} ({', '.join([*columns, *places])}) VALUES ({values})"
        )
        return self.each(f"pg_temp.{RAW}", f"__pf_row {into}%ROWTYPE;", statement, first, end)

    def each(self, source: str, declared: str, statement: str, first: int, end: int) -> dict[int, str]:
        """Runs a statement, which knows a record's place as `__pf_place`, for each record of a table in order."""
        skipped = "{" + ",".join(_NOT_OF_A_RECORD) + "}"
        policy = f" AND __pf_state <> '{POLICY}'" if self._has_policies else ""
        dropped = f"IF __pf_done = 0 THEN __pf_said := {quoted(DROPPED)}; __pf_detail := NULL; RETURN NEXT; END IF; "
        body = (
            f"#variable_conflict use_column\nDECLARE __pf_state text; __pf_done bigint; {declared} BEGIN "
            f"FOR __pf_place IN SELECT {ORDER} FROM {source} WHERE {ORDER} >= __pf_first AND {ORDER} < __pf_end ORDER BY 1 "
            f"LOOP BEGIN {statement}; GET DIAGNOSTICS __pf_done = ROW_COUNT; {dropped if self._must_count else ''}"
            "EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS __pf_state = RETURNED_SQLSTATE, "
            "__pf_said = MESSAGE_TEXT, __pf_detail = PG_EXCEPTION_DETAIL; "
            f"IF left(__pf_state, 2) = ANY ('{skipped}'){policy} THEN RAISE; END IF; RETURN NEXT; END; END LOOP; END"
        )
        head = (
            "CREATE OR REPLACE FUNCTION pg_temp.__processflow_each(__pf_first bigint, __pf_end bigint, "
            "OUT __pf_place bigint, OUT __pf_said text, OUT __pf_detail text) RETURNS SETOF record LANGUAGE plpgsql AS "
        )
        with translated(self._server):
            self._connection.execute((head + quoted(body)).encode())
            found = self._connection.execute(
                f"SELECT __pf_place, __pf_said, __pf_detail FROM pg_temp.__processflow_each({first}, {end})".encode()
            ).fetchall()
        return {int(place): worded(said, detail) for place, said, detail in found}

    def index(self, staged: str) -> None:
        """Lets the server find a staged record by its place."""
        with translated(self._server):
            self._connection.execute(f"CREATE INDEX ON {staged} ({name_of(ORDER)}); ANALYZE {staged}".encode())
