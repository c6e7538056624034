"""Memory stays bounded whatever the size of the data: a limit that the system enforces, and a file beyond it."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import duckdb

from tests.agent.projects import COMMAND, project

ROOM_BYTES = 640 << 20
"""What a run may have beyond what it needs for ten records."""
FLOW = """flow: large
settings: {snapshots: sample}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: "$FILE", columns: {id: bigint, amount: "decimal(10,2)", note: varchar}}
  good: {type: filter, from: orders, where: amount >= 1}
  shaped: {type: map, from: good, fields: {id: id, total: amount * 2, note: upper(note)}}
  kept: {type: file.post, from: shaped, path: kept/, format: parquet, mode: replace}
"""
MEASURED = """
import json, sys
from pathlib import Path
from agent.execute import Executor
from agent.prepare import Request
from agent.runs import run
from repository.project import Project
report = run(Request(Project(Path.cwd()), sys.argv[1]), Executor().run)
peak = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak")]
print(json.dumps({"report": report, "address_bytes": int(peak[0]) * 1024}))
"""


def orders(path: Path, rows: int) -> int:
    duckdb.execute(f"""
        COPY (SELECT i AS id, (i % 1000)::DECIMAL(10,2) AS amount, repeat(md5(i::VARCHAR), 20) AS note
              FROM range({rows}) t(i)) TO '{path}' (HEADER)""")
    return path.stat().st_size


def ran(folder: Path, flow: str, limit_bytes: int) -> dict[str, object]:
    python = str(Path(COMMAND).with_name("python"))
    done = subprocess.run(
        [python, "-c", MEASURED, flow],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_file_larger_than_the_memory_that_is_allowed_goes_through_whole(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW.replace("$FILE", "large.csv"))
    project(tmp_path, FLOW.replace("$FILE", "small.csv").replace("flow: large", "flow: small"))
    orders(tmp_path / "small.csv", 10)
    size = orders(tmp_path / "large.csv", 1_200_000)
    plain = ran(tmp_path, "small", resource.RLIM_INFINITY)["address_bytes"]
    assert isinstance(plain, int)
    assert size > ROOM_BYTES

    report = ran(tmp_path, "large", plain + ROOM_BYTES)["report"]

    assert isinstance(report, dict)
    assert report["balanced"]
    assert report["nodes"]["kept"]["delivered"] == 1_200_000 - 1_200_000 // 1000
    assert made.lake.exists()
