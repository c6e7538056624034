"""What single runs have kept, read for programs: typed as it was, from the files of just those runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.records import ROW_ID, SOURCE_BITS
from repository.columns import Columns, literal, quoted
from repository.guard import asked
from repository.manifest import File, Manifest, read
from repository.opening import opened, read_files
from repository.views import payload_columns

ASIDE = {"code": "code", "message": "message", "key": "key", "attempt": "attempt", "node": "node", "at": "at"}
"""Columns of a reject that a condition may name, where the payload has none of the name; always as `reject_…`."""
SOURCE = "rejected"


class Kept:
    """The files that a lake's runs have committed, looked up by run."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._manifest: Manifest = read(root)

    def replays_of(self, run: str) -> list[str]:
        """The runs that took up rejects of a run, or of such a run; what is of another comes behind it.

        Names do not tell which was first of two that began in the same second.
        """
        with opened(self._paths(self._manifest.files("replays"))) as connection:
            links = connection.sql(f'SELECT DISTINCT run, "of" FROM {self._replays()} ORDER BY run').fetchall()
        found = [run]
        for before in found:
            found += [
                later for later in dict.fromkeys(later for later, of in links if of == before) if later not in found
            ]
        return found[1:]

    def rejecting(self, run: str) -> list[str]:
        """The nodes that rejected records in a run."""
        return list(dict.fromkeys(name for file in self._files("rejects", run) for name in file.payloads))

    def rejected(self, run: str, nodes: Sequence[str]) -> pa.Int64Array:
        """The row ids of what some nodes rejected in a run."""
        files = [file for file in self._files("rejects", run) if set(nodes) & set(file.payloads)]
        paths = self._paths(files)
        if not paths:
            return pa.array([], pa.int64())
        with opened(paths) as connection:
            chosen = f"node IN ({', '.join(map(literal, nodes))})"
            found = connection.sql(f"SELECT DISTINCT rid FROM {read_files(paths, run)} WHERE {chosen}").to_arrow_table()
        return found.column(0).combine_chunks()

    def rejects(self, run: str, node: str, where: str | None = None, *, again: bool = False) -> list[pa.Table]:
        """The records that a node rejected in a run, with their row ids last: a table for each set of columns.

        Args:
            run: The run's id.
            node: The node that rejected them.
            where: A condition over the payload's columns and the reject's own.
            again: Whether those that a later run took up are among them, but for those that it rejected again:
                these are the later run's.

        Raises:
            Invalid: the condition cannot be read or computed.
        """
        groups: dict[str, list[File]] = {}
        for file in self._files("rejects", run):
            if node in file.payloads:
                groups.setdefault(json.dumps(file.payloads[node]), []).append(file)
        if where is not None:
            self._check(where)
        tables = [self._rejects(run, node, files, where, again) for files in groups.values()]
        return [table for table in tables if table.num_rows]

    def rids(self, run: str, most: int) -> dict[str, dict[int, list[int]]]:
        """Per place of a run (`node.port`, `node.rejected`) and source the smallest row ids kept there, so many at most."""
        found: dict[str, dict[int, list[int]]] = {}
        for table, port in (("records", "port"), ("rejects", "'rejected'")):
            paths = self._paths(self._files(table, run))
            if not paths:
                continue
            with opened(paths) as connection:
                sql = (
                    f"SELECT node || '.' || {port} AS place, rid >> {SOURCE_BITS} AS source, list(rid ORDER BY rid)[1:{most}] "
                    f"FROM {read_files(paths, run)} GROUP BY place, source ORDER BY place, source"
                )
                for place, source, rids in connection.sql(sql).fetchall():
                    found.setdefault(place, {})[source] = rids
        return found

    def ends(self, run: str, place: str, most: int) -> list[int]:
        """Some row ids that the run has kept at this place and nowhere else: records that were filtered behind it."""
        node, _, port = place.rpartition(".")
        paths = self._paths([*self._files("records", run), *self._files("rejects", run)])
        own = self._paths(file for file in self._files("records", run) if place in file.payloads)
        if not own:
            return []
        here = f"node = {literal(node)} AND port = {literal(port)}"
        records = self._paths(self._files("records", run))
        rejects = [path for path in paths if path not in records]
        others = [f"SELECT rid FROM {read_files(records, run)} WHERE NOT ({here})"]
        others += [f"SELECT rid FROM {read_files(rejects, run)}"] if rejects else []
        with opened(paths) as connection:
            sql = (
                f"SELECT rid FROM {read_files(own, run)} WHERE {here} AND rid NOT IN ({' UNION ALL '.join(others)}) "
                f"ORDER BY rid LIMIT {most}"
            )
            return [rid for (rid,) in connection.sql(sql).fetchall()]

    def parts(self, run: str, place: str) -> list[tuple[list[str], Columns]]:
        """The files that hold the records of a place, and their columns: one pair for each set of columns."""
        node, _, port = place.rpartition(".")
        table, name = ("rejects", node) if port == "rejected" else ("records", place)
        groups: dict[str, list[File]] = {}
        for file in self._files(table, run):
            if name in file.payloads:
                groups.setdefault(json.dumps(file.payloads[name]), []).append(file)
        return [(self._paths(files), files[0].payloads[name]) for files in groups.values()]

    def places(self, run: str) -> list[str]:
        """The places of which a run has kept records, as `node.port`; at `node.rejected` they are as the node was given them."""
        records = dict.fromkeys(name for file in self._files("records", run) for name in file.payloads)
        return [*records, *(f"{node}.rejected" for node in self.rejecting(run))]

    def records(
        self, run: str, place: str, rids: Sequence[int] | None = None, where: str = "true", most: int | None = None
    ) -> list[pa.Table]:
        """The records that a run has kept at a place, with their row ids last: a table for each set of columns."""
        node, _, port = place.rpartition(".")
        tables = []
        for paths, columns in self.parts(run, place):
            picked = ", ".join([*payload_columns(place, columns, columns), f"rid AS {quoted(ROW_ID)}"])
            chosen = "true" if rids is None else f"rid IN ({', '.join(map(str, rids)) or 'NULL'})"
            source = (
                f"SELECT {picked} FROM {read_files(paths, run)} "
                f"WHERE node = {literal(node)} AND port = {literal(port)} AND {chosen}"
            )
            limit = "" if most is None else f" LIMIT {most}"
            with opened(paths) as connection:
                sql = f"SELECT * FROM ({source}) WHERE {where} ORDER BY {quoted(ROW_ID)}{limit}"
                tables.append(connection.sql(sql).to_arrow_table())
        return [table for table in tables if table.num_rows]

    def _rejects(self, run: str, node: str, files: Sequence[File], where: str | None, again: bool) -> pa.Table:
        columns = files[0].payloads[node]
        paths = self._paths(files)
        source = f"SELECT {', '.join(_aside(node, columns))} FROM {read_files(paths, run)} WHERE node = {literal(node)}"
        conditions = [f"({where}\n)"] if where is not None else []
        later = self._paths(file for taking in self.replays_of(run) for file in self._files("rejects", taking))
        taken = f'SELECT run, unnest(rids) AS rid FROM {self._replays()} WHERE "of" = {literal(run)} AND node = {literal(node)}'
        if again:
            rejected = f"SELECT run, rid FROM {read_files(later)}" if later else f"{taken} LIMIT 0"
            taken = f"({taken}) INTERSECT ({rejected})"
        conditions.append(f"{quoted(ROW_ID)} NOT IN (SELECT rid FROM ({taken}))")
        names = [*(name for name, _ in columns), ROW_ID]
        picked = ", ".join(map(quoted, names))
        sql = f"SELECT {picked} FROM {SOURCE} WHERE {' AND '.join(conditions)} ORDER BY {quoted(ROW_ID)}"
        with opened([*paths, *later, *self._paths(self._manifest.files("replays"))]) as connection:
            connection.execute(f"CREATE VIEW {SOURCE} AS {source}")
            return connection.sql(sql).to_arrow_table()

    def _check(self, where: str) -> None:
        """A condition is one expression that names no table and opens nothing."""
        try:
            with opened([]) as connection:
                named = asked(connection, f"SELECT 1 FROM {SOURCE} WHERE ({where}\n)")
        except Invalid as fault:
            told = re.sub(r"^line \d+: ", "", str(fault))
            told = told if ")" in where else told.replace('at or near ")"', "at its end")
            raise Invalid(f"the condition cannot be read: {told}") from fault
        others = [name for name in (*named.tables, *named.perhaps) if name != (SOURCE,)]
        if others:
            raise Invalid(f"a condition reads the rejected records only; it names the table {'.'.join(others[0])}")

    def _replays(self) -> str:
        paths = self._paths(self._manifest.files("replays"))
        if not paths:
            return '(SELECT NULL::VARCHAR AS run, NULL::VARCHAR AS "of", NULL::VARCHAR AS node, NULL::BIGINT[] AS rids WHERE false)'
        return read_files(paths)

    def _files(self, table: str, run: str) -> Iterator[File]:
        for commit in self._manifest.commits:
            if commit.run == run:
                yield from (file for file in commit.files if file.table == table)

    def _paths(self, files: Iterable[File]) -> list[str]:
        return [str(self._root / file.path) for file in files]


def _aside(node: str, columns: Columns) -> Iterator[str]:
    """What a condition may name: the payload's columns, then those of the reject under names that are free."""
    taken = {name.lower() for name, _ in columns}
    yield from payload_columns(node, columns, columns)
    yield f"rid AS {quoted(ROW_ID)}"
    for shown, column in {"rid": "rid", **ASIDE}.items():
        for name in (shown, f"reject_{shown}"):
            if name not in taken:
                yield f"{quoted(column)} AS {quoted(name)}"
