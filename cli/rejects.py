"""Why a run's records were rejected, in a few lines: messages that differ only in their values are one reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cli import show
from pipelines.errors import FlowError

LINES = 12
"""So many reasons are shown; a query tells the rest."""
REASONS = r"""
SELECT node, count(*) AS records, count(DISTINCT message) AS messages, arg_min(message, rid) AS example
FROM (
    SELECT node, rid, message, regexp_replace(
        regexp_replace(message, 'column ''([^'']*)''', 'column \1', 'g'), '''[^'']*''|-?[0-9][0-9.,:+-]*', '…', 'g'
    ) AS kind
    FROM rejects WHERE run = '{run}'
)
GROUP BY node, kind ORDER BY records DESC, node, example
"""
EACH = "select node, code, message, payload from rejects where run = '{run}'"


def reasons(lake: Path, run: str, nodes: Iterable[str]) -> Iterator[str]:
    """The lines that tell why records were rejected, the node with most of them first, and how to ask for each."""
    from repository.query import Limits, rows

    try:
        found = rows(lake, REASONS.format(run=run), Limits(rows=LINES + 1, seconds=20))
    except FlowError as fault:  # the ledger has told how many; what is missing here is only why
        found = []
        yield f"  their reasons cannot be told now: {fault}"
    width = max((len(f"{row['records']:,}") for row in found), default=0)
    margin = max(map(show.wide, nodes), default=0)
    for row in found[:LINES]:
        like = ", and the like" if row["messages"] > 1 else ""
        yield f"  {row['node']:<{margin}}  {row['records']:>{width},}  {show.cell(row['example'])}{like}"
    if len(found) > LINES:
        yield "  … and further reasons"
    yield f'  each with its payload: processflow query "{EACH.format(run=run)}"'
