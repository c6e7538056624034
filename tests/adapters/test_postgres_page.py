"""The page on PostgreSQL says of types, connections and rights what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from adapters.file.types import duckdb_name
from adapters.postgres import Connection
from adapters.postgres.types import declared_type
from tests.adapters.table_room import Room

PAGE = Path(__file__).resolve().parents[2] / "docs" / "postgres.md"
ROWS = [
    [re.findall("`([^`]+)`", cell) for cell in line.split("|")[1:5]]
    for line in PAGE.read_text("utf-8").partition("## Types")[2].partition("## Writing")[0].splitlines()
    if line.startswith("| `")
]


@pytest.fixture
def room(postgres_room: Room) -> Room:
    return postgres_room


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][0])
def test_a_type_is_read_and_made_and_refused_as_the_page_says(room: Room, row: list[list[str]]) -> None:
    declared, (read_as,), (made,), malformed = row
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(declared))
    room.sql(f"CREATE TABLE t ({columns})")
    for value in malformed:
        room.sql(f"INSERT INTO t VALUES ({', '.join([repr(value)] * len(declared))})")

    found = room.read(table="t")

    assert {duckdb_name(field.type) for field in found.table.schema} == {read_as}
    assert {declared_type(field.type) for field in found.table.schema} == {made}
    assert [code for _, code, _ in found.malformed] == ["type"] * len(malformed)
    assert found.rows == []


def test_the_connection_of_the_page_is_one() -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[0]

    found = Connection(**yaml.safe_load(text)["connections"]["shop"])

    assert (found.host, found.tls, found.tls_root) == ("db.example.org", "verify-full", "certificates/company.pem")


def test_the_page_has_every_value_of_tls() -> None:
    table = PAGE.read_text("utf-8").partition("| `tls` |")[2].partition("\n\n")[0]
    named = [word for line in table.splitlines()[2:] for word in re.findall("`([^`]+)`", line.split("|")[1])]

    assert list(dict.fromkeys(named)) == ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
