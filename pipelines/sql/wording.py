"""DuckDB's errors in plain words: one line, what is wrong, what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from pipelines.sql.literals import quoted

LONGEST = 500
"""A message is cut here: it may carry a value, and a value may be megabytes."""

_KIND = re.compile(r"^(?:[A-Z][A-Za-z-]*(?: [A-Za-z-]+)* Error|Error): ")
_INTERNAL = re.compile(r'^Scalar function "+\w+"+ threw an execution error, .*?\. Error: ')
_NO_COLUMN = re.compile(r'Referenced column "(.*?)" not found')
_NO_TABLE = re.compile(r'Referenced table "(.*?)" not found')
_NO_FUNCTION = re.compile(r'Scalar Function with name "?(.*?)"? does not exist')
_NO_TYPE = re.compile(r'Type with name "?(.*?)"? does not exist')
_NO_MATCH = re.compile(r"No function matches the given name and argument types '(.*?)'\.")
_NO_KEY = re.compile(r'Could not find key "(.*?)" in struct')
_CANDIDATES = re.compile(r'(?:Candidate (?:bindings|Entries): |Did you mean )((?:"[^"]*"(?:, )?)+)')
_GROUPS = re.compile(r"must appear in the GROUP BY clause|cannot contain aggregates|aggregate function calls")

ONE_RECORD = ("uses an aggregate function", "an expression sees one record; to sum up records use the node `aggregate`")


def explained(error: str, columns: Iterable[str] = ()) -> tuple[str, str]:
    """What is wrong and what would be right, from an error of binding."""
    columns = list(columns)
    if found := _NO_COLUMN.search(error) or _NO_TABLE.search(error):
        return f'no column "{found[1]}"', _nearest(found[1], error, columns)
    if found := _NO_FUNCTION.search(error):
        return f'no function "{found[1]}"', _suggested(error) or "see DuckDB's list of functions"
    if found := _NO_TYPE.search(error):
        return f'no type "{found[1]}"', _suggested(error) or "see DuckDB's list of types"
    if found := _NO_MATCH.search(error):
        called = found[1].replace("_LITERAL", "")
        kind = (
            "TIMESTAMPTZ"
            if "TIMESTAMPTZ_NS" in called
            else "TIMESTAMP"
            if "TIMESTAMP_NS" in called
            else "DECIMAL(18, 2)"
        )
        return f"nothing computes {called}", f"cast what it is given to a type it takes, such as x::{kind}"
    if found := _NO_KEY.search(error):
        return f'no field "{found[1]}" in the struct', _suggested(error)
    if _GROUPS.search(error):
        return ONE_RECORD
    return one_line(error), ""


def one_line(error: str) -> str:
    """DuckDB's own words for a fault, without the kind of error, the excerpt of our statement and the advice on it."""
    words = error.partition("\n\nLINE ")[0].partition("\n\nStack Trace:")[0].strip()
    words = _INTERNAL.sub("", _KIND.sub("", words, count=1), count=1)
    words = " ".join(words.partition("\n\tCandidate functions:")[0].split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"


def _nearest(name: str, error: str, columns: list[str]) -> str:
    lower = {column.lower(): column for column in columns}
    close = get_close_matches(name.lower(), lower, 1)
    if close:
        return f'did you mean "{lower[close[0]]}"?'
    if not columns:
        return "no columns come in"
    there = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
    return f"there are: {there}; a text constant stands in single quotes, {quoted(name)}"


def _suggested(error: str) -> str:
    found = _CANDIDATES.search(error)
    return f"did you mean {found[1]}?" if found else ""
