"""No secret reaches a report, a log, the catalogue, the terminal or an error, however a system fails: one canary in all of them."""

from __future__ import annotations

import base64
import json
import logging
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from adapters import http
from adapters.mysql import snapshots as mysql_snapshots
from adapters.postgres import snapshots
from pipelines.environment import Connection
from pipelines.environmentfile import load_environment
from pipelines.errors import FlowError
from pipelines.scope import Scope
from tests.agent.canaries import CANARY, FLOW, NAME, SECRET, USER, WORLDS, World
from tests.agent.projects import processflow, project, run_here
from tests.parts.proxy import Proxy
from tests.parts.shop_api import answer, serving


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
    snapshots.release_all()
    mysql_snapshots.release_all()
    http.loop.run(http.client.close_all())


@pytest.mark.parametrize("name", WORLDS)
def test_no_secret_is_written_anywhere_on_any_day(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, opened: ExitStack, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    world = WORLDS[name](request, tmp_path, opened)
    monkeypatch.setenv(NAME, CANARY)
    (tmp_path / "faults").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "faults"))  # where what was not foreseen is kept
    caplog.set_level(logging.DEBUG)
    texts: dict[str, str] = {}
    for number, (day, (settings, happens)) in enumerate(world.days.items()):
        folder = tmp_path / f"day-{number}"
        world.before()
        texts[day] = "\n".join(lived(world, folder, {**world.settings, **settings}, happens))
        texts[f"{day}: logged"] = "\n".join(map(caplog.handler.format, caplog.records))
        caplog.clear()
    texts["terminal"] = "".join(capfd.readouterr())

    assert len(texts) > len(world.days)
    forms = {form for secret in world.secrets for form in written(secret)}
    assert '"status": "done' in texts.get("works", '"status": "done')
    assert {place: lines for place, text in texts.items() if (lines := leaks(text, forms))} == {}
    assert leaking_files(tmp_path, forms) == []


def lived(
    world: World, folder: Path, settings: Mapping[str, Any], happens: Callable[[Proxy], None] | None
) -> Iterator[str]:
    """All that is said on a day: by the connection's test, by the list of what is there, by a run."""
    with ExitStack() as stack:
        if happens is not None:
            line = stack.enter_context(Proxy(world.port))
            settings = {**settings, "port": line.port}
            happens(line)
        text = json.dumps({"environment": "local", "connections": {"shop": settings}})
        made = project(folder, world.flow, {"environments/local.yaml": text})
        scope = Scope(folder, load_environment(folder, "local"), staging=folder / "staging")
        connection = scope.connection("shop", Connection)
        yield repr(connection)
        for work in (lambda: connection.test(scope), lambda: connection.discover(scope)) if happens is None else ():
            yield _said(work)
        yield _said(lambda: json.dumps(run_here(made, "kept"), default=str))
        snapshots.release_all()
        mysql_snapshots.release_all()


def _said(work: Callable[[], object]) -> str:
    try:
        return str(work())
    except FlowError as fault:
        return "".join(traceback.format_exception(fault))  # as the command would keep it


def written(secret: str) -> set[str]:
    """The ways in which a secret may be written."""
    pairs = [secret, f"{USER}:{secret}"]
    packed = [base64.b64encode(pair.encode()).decode().rstrip("=") for pair in pairs]
    return {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        secret.encode().hex(),
        *packed,
    }


def leaks(text: str, forms: set[str]) -> list[str]:
    """The lines of a text that hold a secret."""
    return [line for line in text.splitlines() if any(form in line for form in forms)]


def leaking_files(folder: Path, forms: set[str]) -> list[str]:
    """The files below a folder that hold it; Parquet as what it keeps."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        shown = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
        if any(form.encode() in content or form in shown for form in forms):
            found.append(str(path.relative_to(folder)))
    return found


IN_THE_OPEN: dict[str, dict[str, Any]] = {
    "postgres url": {"adapter": "postgres", "url": f"postgresql://{USER}:{quote(CANARY, safe='')}@h/d"},
    "postgres words": {"adapter": "postgres", "url": f"host=h password={CANARY}"},
    "postgres query": {"adapter": "postgres", "url": f"postgresql://h/d?password={quote(CANARY)}"},
    "postgres password": {"adapter": "postgres", "host": "h", "password": CANARY},
    "mysql url": {"adapter": "mysql", "url": f"mysql://{USER}:{quote(CANARY, safe='')}@h/d"},
    "mysql scheme": {"adapter": "mysql", "url": f"oracle://{USER}:{quote(CANARY, safe='')}@h/d"},
    "http url": {"adapter": "http", "url": f"https://{USER}:{quote(CANARY, safe='')}@h/"},
    "http scheme": {"adapter": "http", "url": f"ftp://{USER}:{quote(CANARY, safe='')}@h/"},
    "http query": {"adapter": "http", "url": f"https://h/?key={quote(CANARY)}"},
    "http port": {"adapter": "http", "url": f"https://{USER}:{quote(CANARY, safe='')}@h:no/"},
    "http bearer": {"adapter": "http", "url": "https://h/", "auth": {"bearer": CANARY}},
    "http auth": {"adapter": "http", "url": "https://h/", "auth": CANARY},
    "http proxy": {"adapter": "http", "url": "https://h/", "proxy": {"url": f"http://{USER}:{quote(CANARY)}@p:1"}},
    "http token url": {
        "adapter": "http", "url": "https://h/",
        "auth": {"oauth2": {"token_url": f"https://{USER}:{quote(CANARY)}@h/t", "client_id": "x"}},
    },
    "kafka servers": {"adapter": "kafka", "servers": f"{USER}:{CANARY}@h:9092"},
    "kafka password": {"adapter": "kafka", "servers": "h:9092", "security": {"user": USER, "password": CANARY}},
    "s3 url": {"adapter": "file", "url": f"s3://{USER}:{quote(CANARY, safe='')}@bucket"},
    "s3 key": {"adapter": "file", "url": "s3://bucket", "access_key": "k", "secret_key": CANARY},
    "sftp url": {"adapter": "file", "url": f"sftp://{USER}:{quote(CANARY, safe='')}@h/x"},
    "postgres raw": {"adapter": "postgres", "url": f"postgresql://{USER}:{CANARY}@h/d"},
    "mysql raw": {"adapter": "mysql", "url": f"mysql://{USER}:{CANARY}@h/d"},
    "http raw": {"adapter": "http", "url": f"https://{USER}:{CANARY}@h/d"},
    "s3 raw": {"adapter": "file", "url": f"s3://{USER}:{CANARY}@bucket/x"},
    "sftp raw": {"adapter": "file", "url": f"sftp://{USER}:{CANARY}@h/x"},
    "s3 endpoint": {"adapter": "file", "url": "s3://bucket", "endpoint": f"https://{USER}:{CANARY}@h:9000"},
    "sftp query": {"adapter": "file", "url": f"sftp://h/x?password={quote(CANARY)}"},
    "store scheme": {"adapter": "file", "url": f"ftp://{USER}:{quote(CANARY, safe='')}@h/x"},
    "an unknown field": {"adapter": "mysql", "url": "mysql://me@h/d", "passwd": CANARY},
    "an unknown adapter": {"adapter": "oracle", "password": CANARY},
}  # fmt: skip


@pytest.mark.parametrize("name", IN_THE_OPEN)
def test_a_secret_written_in_the_open_is_refused_without_being_shown(name: str, tmp_path: Path) -> None:
    text = json.dumps({"environment": "local", "connections": {"shop": IN_THE_OPEN[name]}})
    made = project(tmp_path, FLOW.replace("KIND", "sqlite").replace(", GET", "").replace(", POST", ""),
                   {"environments/local.yaml": text})  # fmt: skip

    said = [_said(lambda: load_environment(made.folder, "local")), _said(lambda: run_here(made, "kept"))]

    assert "Invalid" in said[0] + said[1]
    assert [leaks(text, written(CANARY)) for text in said] == [[], []]


def test_what_the_command_prints_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, CANARY)
    (tmp_path / "faults").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "faults"))
    with serving(3) as shop:
        echo = json.dumps({"error": f"{CANARY} may not do this"})
        shop.script("/orders", *[answer(401, echo)] * 50)
        shop.script("/plain", *[answer(500, echo)] * 50)
        settings = {"adapter": "http", "url": f"{shop.url}/plain", "test_path": "", "retry": {"attempts": 1},
                    "auth": {"api_key": {"query": "key", "value": SECRET}}}  # fmt: skip
        flow = (
            FLOW.replace("KIND", "http").replace("GET", 'path: "", columns: {id: BIGINT}').replace("POST", 'path: ""')
        )
        environments = {
            f"environments/{place}.yaml": json.dumps(
                {"environment": place, "connections": {"shop": {**settings, "url": f"{shop.url}/{path}"}}}
            )
            for place, path in (("local", "plain"), ("other", "orders"))
        }
        project(tmp_path, flow, environments)
        done = [
            processflow(tmp_path, *words, "--environment", place)
            for place in ("local", "other")
            for words in (("connections", "test", "shop"), ("run", "kept"))
        ]

    forms = written(CANARY)
    assert [each.returncode for each in done] == [3, 3, 2, 1]
    assert "key=" in shop.seen[0].query
    assert [leaks(each.stdout + each.stderr, forms) for each in done] == [[], [], [], []]
    assert leaking_files(tmp_path, forms) == []
