"""The example that keeps a shop and an ERP in step: its tests hold, its tour runs, and killed in the middle it loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.projects import COMMAND
from tests.parts.sharing import free_port

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NUMBERS = range(69_600, 69_660)
"""The last is the one that the tour follows."""
TOKENS = {"SHOP_TOKEN": "of-the-shop", "ERP_TOKEN": "of-the-erp"}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example in a folder of its own, with a small shop, at ports that nobody has."""
    folder = tmp_path / "orders-to-erp"
    hidden = shutil.ignore_patterns(".data", ".processflow")
    shutil.copytree(EXAMPLES / "orders-to-erp", folder, ignore=hidden)
    shutil.copy(EXAMPLES / "words.sh", tmp_path)
    environment = folder / "environments" / "local.yaml"
    text = environment.read_text()
    for port in ("28611", "28612", "28613"):
        assert port in text
        text = text.replace(port, str(free_port()))
    environment.write_text(text)
    with closing(sqlite3.connect(tmp_path / "source.db")) as source, source:
        source.execute(
            "CREATE TABLE orders (id INTEGER, customer INTEGER, ordered_at TEXT, discs INTEGER, amount_cents INTEGER)"
        )
        # the shop forgets the first order's customer; each tenth order is more than the ERP lends
        source.executemany(
            "INSERT INTO orders VALUES (?, ?, '1998-06-01 00:00:00', ?, ?)",
            [(n, n % 30_000, 1 + n % 4, 13_000 if n % 10 == 0 else 1_499 + n % 100) for n in NUMBERS],
        )
    subprocess.run([sys.executable, "systems.py", "make", str(tmp_path / "source.db")], cwd=folder, check=True)
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    """The shop's API, the ERP's and the mail server, for as long as something here runs."""
    ready = folder / "ready"
    command = [sys.executable, "servers.py", sys.executable, "-c", f"open({str(ready)!r}, 'w').close(); input()"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, env={**os.environ, **TOKENS}) as running:
        while not ready.exists():
            assert running.poll() is None
            time.sleep(0.05)
        yield
        running.communicate(b"\n")
        ready.unlink()


def run(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [COMMAND, "run", "orders-to-erp", "--json"],
        cwd=folder,
        env={**os.environ, **TOKENS},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(folder: Path, database: str, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / ".data" / "systems" / database)) as connection:
        return connection.execute(sql).fetchall()


def taken(folder: Path) -> int:
    """How many orders the ERP has."""
    return int(rows(folder, "erp.db", "SELECT count(*) FROM orders")[0][0])


def assert_in_step(folder: Path) -> None:
    """The ERP has each order once but those it refuses, and the shop knows its number."""
    good = [n for n in NUMBERS if n % 10]
    assert [name for (name,) in rows(folder, "erp.db", "SELECT order_no FROM orders ORDER BY order_no")] == [
        f"WEB-{n:06}" for n in good
    ]
    numbers = dict(rows(folder, "erp.db", "SELECT order_no, 'SO-' || (10000 + number) FROM orders"))
    known = rows(folder, "shop.db", "SELECT order_id, erp_number FROM erp_numbers ORDER BY order_id")
    assert known == [(n, numbers[f"WEB-{n:06}"]) for n in good]


def test_its_own_tests_hold(example: Path) -> None:
    done = subprocess.run([COMMAND, "test"], cwd=example, env={**os.environ, **TOKENS}, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_only_what_is_new_or_changed_goes_and_what_is_refused_is_told(example: Path) -> None:
    with serving(example):
        first, again = run(example), run(example)
        subprocess.run([sys.executable, "systems.py", "later"], cwd=example, check=True)
        before = taken(example)
        later = run(example)

    assert (first["status"], first["delivery"]["label"]) == ("done_with_rejects", "effectively once")
    assert (first["nodes"]["named"]["rejected"], first["nodes"]["erp"]["rejected"]) == (1, len(NUMBERS) // 10 - 1)
    (mail,) = (example / ".data" / "mail").iterdir()
    assert f"Subject: {len(NUMBERS) // 10 - 1} orders were refused by the ERP" in mail.read_text()
    assert "may owe 120.00 for one order, this is" in mail.read_text()
    assert again["nodes"]["orders"]["in"] == 0
    assert later["nodes"]["orders"]["in"] == 5
    assert later["nodes"]["erp"]["delivered"] == 5
    assert taken(example) == before + 3, "what has changed is there twice"


def test_killed_in_the_middle_it_loses_nothing_and_sends_nothing_twice(example: Path) -> None:
    environment = example / "environments" / "local.yaml"
    environment.write_text(environment.read_text().replace("per_second: 500", "per_second: 20"))
    with serving(example):
        running = subprocess.Popen(
            [COMMAND, "run", "orders-to-erp"], cwd=example, env={**os.environ, **TOKENS}, stdout=subprocess.DEVNULL
        )
        while taken(example) < 15:
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
        running.wait()
        environment.write_text(environment.read_text().replace("per_second: 20", "per_second: 500"))
        delivered = taken(example)

        done = run(example)

    assert delivered < len(NUMBERS) * 0.8, "it was killed too late"
    assert done["status"] == "done_with_rejects"
    assert_in_step(example)


def test_its_tour_runs(example: Path) -> None:
    bin_folder = Path(COMMAND).parent
    (example / "tour.sh").write_text((example / "tour.sh").read_text().replace("../../.venv/bin", str(bin_folder)))

    done = subprocess.run(
        [sys.executable, "servers.py", "sh", "tour.sh"],
        cwd=example,
        env={**os.environ, **TOKENS},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "done, nothing new, balanced" in done.stdout
