"""Runs, positions and versions, in a database that several processes share."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipelines.errors import Bug, Invalid, Unavailable
from repository.catalogue import Catalogue
from repository.owner import Owner, since, this_process
from repository.project import Project
from repository.schema import metadata

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'catalogue.db'}"


@pytest.fixture
def catalogue(url: str) -> Iterator[Catalogue]:
    opened = Catalogue(url)
    yield opened
    opened.close()


def ended(status: str = "done", error: str | None = None) -> dict[str, object]:
    return {"status": status, "error": error, "ended": "2026-11-23T12:00:05+00:00", "balanced": True, "nodes": {"a": 1}}


def gone() -> Owner:
    """A process that has ended."""
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return Owner(this_process().host, int(child.stdout), "some boot/1")


def test_a_run_and_its_positions_end_together_and_once(catalogue: Catalogue) -> None:
    catalogue.begin_run("r1", "f", "v1", "local", NOON, parameters={"since": "2026"})
    running = catalogue.report("r1")

    first = catalogue.end_run("r1", ended(), {"orders": {"file": "a.csv", "byte": 10}})
    second = catalogue.end_run("r1", ended("failed"), {"orders": None})

    assert (running["status"], running["ended"], running["parameters"]) == ("running", None, {"since": "2026"})
    assert (first, second) == (True, False)
    assert catalogue.positions("f", "local") == {"orders": {"file": "a.csv", "byte": 10}}
    assert catalogue.report("r1")["nodes"] == {"a": 1}
    assert catalogue.runs()[0]["seconds"] == 5.0


def test_positions_are_of_a_flow_in_an_environment(catalogue: Catalogue) -> None:
    for run, flow, environment in (("r1", "f", "local"), ("r2", "f", "plant"), ("r3", "g", "local")):
        catalogue.begin_run(run, flow, "v", environment, NOON)
        catalogue.end_run(run, ended(), {"a": run, "b": [run]})

    forgotten = catalogue.forget_positions("f", "plant", ["a"])

    assert forgotten == 1
    assert catalogue.positions("f", "local") == {"a": "r1", "b": ["r1"]}
    assert catalogue.positions("f", "plant") == {"b": ["r2"]}
    assert catalogue.positions("f", "nowhere") == {}


def test_a_position_moves_on_from_run_to_run(catalogue: Catalogue) -> None:
    for number in range(3):
        catalogue.begin_run(f"r{number}", "f", "v", "local", NOON + timedelta(minutes=number))
        catalogue.end_run(f"r{number}", ended(), {"a": number})

    assert catalogue.positions("f", "local") == {"a": 2}


def test_when_ending_fails_the_position_stays(catalogue: Catalogue) -> None:
    catalogue.begin_run("r1", "f", "v", "local", NOON)

    with pytest.raises(sa.exc.StatementError):
        catalogue.end_run("r1", ended(), {"a": 1, "b": object()})

    assert catalogue.positions("f", "local") == {}
    assert catalogue.report("r1")["status"] == "running"


def test_a_run_that_never_began_cannot_end(catalogue: Catalogue) -> None:
    with pytest.raises(Bug, match="never began"):
        catalogue.end_run("r9", ended())


def test_a_flow_runs_once_at_a_time_in_an_environment(catalogue: Catalogue) -> None:
    catalogue.begin_run("r1", "f", "v", "local", NOON)
    catalogue.begin_run("r2", "f", "v", "plant", NOON)

    with pytest.raises(Unavailable, match=r"already running in environment 'local': run r1 since 2026-11-23T12:00:00"):
        catalogue.begin_run("r3", "f", "v", "local", NOON)

    assert [line["run"] for line in catalogue.runs()] == ["r2", "r1"]


def test_the_runs_of_a_process_that_ended_are_taken_over_by_one(catalogue: Catalogue, url: str) -> None:
    catalogue.begin_run("dead", "f", "v", "local", NOON, owner=gone())
    catalogue.begin_run("alive", "g", "v", "local", NOON)
    other = Catalogue(url)

    first, second = catalogue.dead_runs(), other.dead_runs()
    other.close()

    assert (first, second) == (["dead"], [])


def test_a_number_that_another_process_got_later_is_not_the_owner(catalogue: Catalogue) -> None:
    mine = this_process()
    catalogue.begin_run("r1", "f", "v", "local", NOON, owner=Owner(mine.host, mine.pid, mine.since + "0"))

    assert catalogue.dead_runs() == ["r1"]
    assert catalogue.dead_runs() == []


def test_a_run_elsewhere_is_dead_only_when_it_fell_silent(catalogue: Catalogue) -> None:
    catalogue.begin_run("r1", "f", "v", "local", NOON, owner=Owner("another-host", 1, "x"))
    now = datetime.now(UTC)
    catalogue.beat("r1", now)

    heard, silent = catalogue.dead_runs(now + timedelta(seconds=50)), catalogue.dead_runs(now + timedelta(seconds=70))

    assert (heard, silent) == ([], ["r1"])


def test_a_killed_process_is_no_longer_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner(this_process().host, child.pid, since(child.pid))
    before = owner.is_alive

    child.kill()
    child.wait()
    child.stdin.close() if child.stdin else None

    assert (before, owner.is_alive) == (True, False)


def test_a_run_that_left_nothing_ends_with_its_reason(catalogue: Catalogue) -> None:
    catalogue.begin_run("r1", "f", "v", "local", NOON)

    report = catalogue.fail_run("r1", "interrupted before anything was read")

    assert (report["status"], report["balanced"], report["nodes"]) == ("failed", False, {})
    assert catalogue.report("last")["error"] == "interrupted before anything was read"


def test_runs_are_listed_latest_first_and_by_what_is_asked(catalogue: Catalogue) -> None:
    for number, (flow, status) in enumerate([("f", "done"), ("g", "failed"), ("f", "failed")]):
        catalogue.begin_run(f"r{number}", flow, "v", "local", NOON + timedelta(minutes=number))
        catalogue.end_run(f"r{number}", ended(status))

    def listed(**asked: str | int) -> list[str]:
        return [line["run"] for line in catalogue.runs(**asked)]  # type: ignore[arg-type]

    assert listed() == ["r2", "r1", "r0"]
    assert listed(flow="f") == ["r2", "r0"]
    assert listed(status="failed", limit=1) == ["r2"]
    assert listed(environment="plant") == []


def test_a_run_is_found_by_the_beginning_of_its_name(catalogue: Catalogue) -> None:
    for run in ("ab1", "ab2", "ab", "c%_"):
        catalogue.begin_run(run, f"flow-{run[:2]}-{run[-1]}", "v", "local", NOON)

    assert catalogue.report("ab1")["run"] == "ab1"
    assert catalogue.report("ab")["run"] == "ab"
    assert catalogue.report("c%")["run"] == "c%_"
    with pytest.raises(Invalid, match=r"several runs begin with 'a': ab, ab1, ab2"):
        catalogue.report("a")
    with pytest.raises(Invalid, match=r"there is no run 'x'; the latest are: c%_, ab2, ab1, ab"):
        catalogue.report("x")


def test_no_run_yet_is_said(catalogue: Catalogue) -> None:
    with pytest.raises(Invalid, match=r"there is no run yet; start one with"):
        catalogue.report("last")


def test_a_versions_text_is_kept_as_first_seen(catalogue: Catalogue) -> None:
    catalogue.keep_version("f", "v1", "flow: f\n# ünïcode\n")
    catalogue.keep_version("f", "v1", "other")

    assert catalogue.version_text("f", "v1") == "flow: f\n# ünïcode\n"
    with pytest.raises(Invalid, match="no version 'v2'"):
        catalogue.version_text("f", "v2")


def test_the_migrations_make_the_tables_that_the_code_knows(catalogue: Catalogue, url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = sa.create_engine(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    assert differences == []


def test_a_catalogue_of_another_version_is_refused_in_words(catalogue: Catalogue, url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(Invalid, match=r"its tables are of another version"):
        Catalogue(url)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "catalogue.db"
    broken.write_bytes(b"not a database" * 100)

    with pytest.raises(Unavailable, match=r"catalogue sqlite:///.*: file is not a database"):
        Catalogue(f"sqlite:///{broken}")


def test_a_new_file_that_another_process_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE other (a)")
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        ending.start()

        Catalogue(f"sqlite:///{path}").close()

        ending.join()
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_many_processes_open_and_write_at_once(url: str, repository_root: Path) -> None:
    code = (
        "import sys; from datetime import datetime, UTC; from repository.catalogue import Catalogue\n"
        "c = Catalogue(sys.argv[1])\n"
        "for n in range(10):\n"
        "    run = f'{sys.argv[2]}-{n}'\n"
        "    c.begin_run(run, sys.argv[2], 'v', 'local', datetime.now(UTC)); c.keep_version('f', 'v', 'text')\n"
        "    c.end_run(run, {'status': 'done'}, {'a': n})\n"
        "c.close()"
    )

    started = [
        subprocess.Popen([sys.executable, "-c", code, url, f"flow{number}"], cwd=repository_root) for number in range(4)
    ]
    codes = [process.wait() for process in started]
    catalogue = Catalogue(url)
    done = catalogue.runs(status="done", limit=None)
    positions = [catalogue.positions(f"flow{number}", "local") for number in range(4)]
    catalogue.close()

    assert codes == [0, 0, 0, 0]
    assert len(done) == 40
    assert positions == [{"a": 9}] * 4


def test_reading_the_catalogue_does_not_import_alembic(catalogue: Catalogue, url: str, repository_root: Path) -> None:
    code = (
        "import sys; from repository.catalogue import Catalogue; Catalogue(sys.argv[1]).runs()\n"
        "print([m for m in sys.modules if m in {'alembic', 'apache_beam', 'pyarrow', 'duckdb', 'numpy', 'pydantic'}])"
    )

    told = subprocess.run(
        [sys.executable, "-c", code, url], cwd=repository_root, capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == "[]"


def test_a_projects_data_is_in_its_folder_unless_named_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROCESSFLOW_HOME", raising=False)
    plain = Project(tmp_path)
    monkeypatch.setenv("PROCESSFLOW_HOME", str(tmp_path / "elsewhere"))
    by_variable, by_argument = Project(tmp_path), Project(tmp_path, Path("data"))

    plain.prepare()

    assert plain.lake == tmp_path / ".processflow" / "lake"
    assert by_variable.staging("r1") == tmp_path / "elsewhere" / "staging" / "r1"
    assert by_argument.catalogue_url == f"sqlite:///{tmp_path / 'data' / 'catalogue.db'}"
    assert (tmp_path / ".processflow" / ".gitignore").read_text() == "*\n"
