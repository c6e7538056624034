"""How it looks at a terminal: tables that fit, nothing lost in folding, progress while a run goes on."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cli import show
from cli.run import progress_rows
from tests.agent.projects import COMMAND

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zs", "Cf", "Mn"]), min_size=1, max_size=9)
TEXTS = st.lists(WORDS, max_size=8).map(" ".join)


@given(rows=st.lists(st.tuples(TEXTS, TEXTS, st.integers()), min_size=1, max_size=4), width=st.integers(60, 120))
def test_a_table_fits_its_terminal_and_loses_no_sign(rows: list[tuple[str, str, int]], width: int) -> None:
    lines = show.lines(["one", "two", "n>"], rows, width)

    shown = "".join(lines).replace(" ", "")
    assert max(map(show.wide, lines)) <= width
    for row in rows:
        for mark in "".join(map(show.cell, row)).replace(" ", ""):
            assert mark in shown
    assert sum(map(len, "".join(f"{a}{b}" for a, b, _ in rows).split())) <= len(shown)


@given(texts=st.lists(st.text(max_size=30), min_size=2, max_size=2))
def test_a_value_cannot_move_the_cursor_nor_break_a_line(texts: list[str]) -> None:
    (_, line) = show.lines(["a", "b"], [["x" + texts[0], "y" + texts[1]]])

    assert line.isprintable()


def test_a_table_that_fits_no_terminal_is_shown_record_by_record() -> None:
    names = [f"column_{number}" for number in range(30)]

    lines = show.lines(names, [[f"value {number}" for number in range(30)]] * 2, 80)

    assert lines[0] == "2 records, 30 columns each"
    assert lines[1:4] == ["-- 1", "column_0   value 0", "column_1   value 1"]
    assert lines.count("column_29  value 29") == 2


def test_columns_without_any_value_are_left_out() -> None:
    assert show.lines(["a", "b>", "c"], [["x", None, "y"], ["z", None, ""]]) == ["a  c", "x  y", "z"]


def test_progress_has_a_row_for_each_node_and_its_branches_below() -> None:
    seen = {("orders", "out"): 10, ("orders", "rejected"): 2, ("size", "large"): 3, ("size", "small"): 7}

    assert progress_rows(seen) == [
        ["orders", 10, 2],
        ["size", 10, None],
        ["  .large", 3, None],
        ["  .small", 7, None],
    ]


def test_a_run_at_a_terminal_shows_progress_and_leaves_only_its_result(project: Path) -> None:
    shown = at_a_terminal(project, "run", "welcome")

    assert re.search(r"welcome  \d+ s", shown)
    assert "starting" in shown
    final = shown.rpartition("\x1b[2K")[2]
    assert "starting" not in final
    assert re.search(r"written +file\.post +2 +2", final)


def test_a_program_that_asks_for_json_gets_nothing_else(project: Path) -> None:
    shown = at_a_terminal(project, "run", "welcome", "--json")

    assert shown.startswith("{")
    assert shown.rstrip().endswith("}")


def at_a_terminal(folder: Path, *words: str) -> str:
    """All that a command writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", "100"], stdin=theirs, check=True)
    child = subprocess.Popen(
        [COMMAND, *words], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # Linux tells so that the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert child.wait(60) == 0
    return b"".join(parts).decode()
