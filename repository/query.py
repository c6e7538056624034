"""SQL over the data logs: one SELECT, answered read-only in a child process with limits on memory, rows and time."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pipelines.errors import Bug, Invalid

Format = Literal["table", "csv", "json", "parquet", "arrow"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json", "parquet", "arrow")
START = "import sys; sys.path[:0] = sys.argv[1:]; from repository.query_child import main; main()"


@dataclass(frozen=True)
class Limits:
    """What a query may use. Beyond `rows` the answer is cut off and says so; beyond the others the query ends."""

    memory_bytes: int = 1 << 30
    rows: int = 1_000_000
    seconds: float = 60.0
    spill_bytes: int = 4 << 30
    """What it may write to temporary files of its own."""
    threads: int = 2


@dataclass(frozen=True)
class Answer:
    """What became of a query whose rows are written."""

    rows: int
    truncated: bool
    seconds: float


def query(
    root: Path,
    sql: str,
    limits: Limits | None = None,
    format: Format = "table",  # noqa: A002 - the option's name in the command
    output: Path | BinaryIO | None = None,
) -> Answer:
    """Answers one SELECT over the lake at `root`, as a table or in another format.

    Args:
        root: The lake's root; one that does not exist yet has empty views.
        sql: One SELECT over the views: `runs`, `nodes`, `records`, `rejects`, `deliveries`, `transactions`, `FLOW.NODE`.
        limits: What the query may use.
        format: How the answer is written.
        output: A file's path (it appears whole or not at all), or an open binary file; None: the standard output.

    Raises:
        Invalid: The query cannot be answered: it is no SELECT, names what is not there, or passes a limit.
    """
    if format not in FORMATS:
        raise Invalid(f"unknown format {format!r}; there are: {', '.join(FORMATS)}")
    limits = limits or Limits()
    if not isinstance(output, Path):
        return _to_stream(root, sql, limits, format, output or sys.stdout.buffer)
    partial = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with _created(partial, output) as file:
            answer = _ask(root, sql, limits, format, file.fileno())
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return answer


def rows(root: Path, sql: str, limits: Limits | None = None) -> list[dict[str, Any]]:
    """The answer as one dict per row, values as JSON has them."""
    out = io.BytesIO()
    query(root, sql, limits, "json", out)
    found: list[dict[str, Any]] = json.loads(out.getvalue())
    return found


def _created(path: Path, wanted: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as fault:
        raise Invalid(f"{wanted}: cannot be written ({fault.strerror}); name a file in a folder that exists") from fault


def _to_stream(root: Path, sql: str, limits: Limits, name: Format, output: BinaryIO) -> Answer:
    """Lets the child write straight to a real file or pipe; what is in memory gets a copy of a temporary file."""
    try:
        output.flush()
        number = output.fileno()
    except (OSError, AttributeError):
        with tempfile.TemporaryFile() as file:
            answer = _ask(root, sql, limits, name, file.fileno())
            file.seek(0)
            while block := file.read(1 << 20):
                output.write(block)
        return answer
    return _ask(root, sql, limits, name, number)


def _ask(root: Path, sql: str, limits: Limits, name: Format, output: int) -> Answer:
    started = time.monotonic()
    width = shutil.get_terminal_size((120, 24)).columns
    request = {"root": str(root.absolute()), "sql": sql, "format": name, "limits": asdict(limits), "width": width}
    command = [sys.executable, "-I", "-S", "-c", START, *_places()]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={"LC_ALL": "C.UTF-8", "TMPDIR": tempfile.gettempdir()},
    )
    try:
        _, said = child.communicate((json.dumps(request) + "\n").encode(), timeout=limits.seconds)
    except subprocess.TimeoutExpired as fault:
        raise Invalid(
            f"the query took longer than its {limits.seconds:g} seconds; take fewer rows, or raise the limit"
        ) from fault
    finally:
        _end(child)
    return _answer(said, child.returncode, limits, time.monotonic() - started)


def _answer(said: bytes, code: int, limits: Limits, seconds: float) -> Answer:
    last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    if code == -signal.SIGXCPU or code == -signal.SIGKILL:
        raise Invalid(
            f"the query used more than it may ({limits.seconds:g} seconds); take fewer rows, or raise the limit"
        )
    try:
        told: Mapping[str, Any] = json.loads(last)
    except ValueError:
        raise Bug(f"the query's process ended with code {code}: {last or 'it said nothing'}") from None
    if "invalid" in told:
        raise Invalid(told["invalid"])
    return Answer(told["rows"], told["truncated"], seconds)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and whatever it started, whether or not it has ended by itself."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stderr):
        if stream is not None:
            stream.close()


def _places() -> list[str]:
    """Where the child finds this project and DuckDB: it starts without Python's site, which costs and can be set from outside."""
    found = []
    for name in ("repository", "pipelines", "duckdb", "pyarrow"):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            raise Bug(f"the module {name!r} cannot be found; install the project again")
        found.append(str(Path(spec.origin).parent.parent))
    return list(dict.fromkeys(found))
