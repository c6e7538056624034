"""The process of a user's function: it dies, loops, swells and talks, and the run goes on and keeps its secrets."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.transforms.functions import EACH, SCHEMA, rejected, values, worked
from transforms.python import Python

MIB = 1 << 20


@pytest.mark.parametrize(
    ("death", "words"),
    [
        ("os._exit(3)", "its process ended with exit status 3"),
        ("os.kill(os.getpid(), 11)", "its process ended by SIGSEGV"),
        ("os.abort()", "its process ended by SIGABRT"),
        ("(os.write(2, b'out of luck'), os._exit(1))", "its process ended with exit status 1: out of luck"),
        ("os.closerange(3, 100)", "its process ended"),
    ],
)
def test_a_record_that_ends_the_process_is_found_and_the_rest_goes_on(death: str, words: str) -> None:
    code = EACH + f"import os\ndef one(n):\n    if n == 11:\n        {death}\n    return n\n"

    outcome = worked(code)

    assert list(rejected(outcome)) == [11]
    assert rejected(outcome)[11].startswith(words)
    assert values(outcome) == [n for n in range(40) if n != 11]


def test_a_record_over_which_it_never_ends_is_found() -> None:
    code = EACH + "def one(n):\n    while n == 5:\n        pass\n    return n\n"

    outcome = worked(code, 20, timeout_seconds=2.0)

    assert rejected(outcome) == {5: "it took longer than 0.2 seconds"}


def test_memory_beyond_the_limit_is_a_fault_of_the_record() -> None:
    code = EACH + f"def one(n):\n    return len(bytearray({200 * MIB})) if n == 5 else n\n"

    outcome = worked(code, 20, memory_bytes=100 * MIB)

    assert rejected(outcome) == {5: "MemoryError (line 4 of the code)"}


def test_arrow_s_memory_counts_too() -> None:
    code = (
        EACH + f"import pyarrow as pa\ndef one(n):\n    return pa.allocate_buffer({200 * MIB}).size if n == 5 else n\n"
    )

    outcome = worked(code, 20, memory_bytes=100 * MIB)

    assert rejected(outcome)[5].startswith("ArrowMemoryError")


def test_a_function_that_always_dies_is_given_up_in_bounded_time() -> None:
    outcome = worked("import os\ndef run(batch):\n    os._exit(1)\n", 70_000)

    assert len(rejected(outcome)) == 70_000
    assert values(outcome) == []


def test_what_it_prints_and_reads_does_not_meet_what_we_say_to_each_other() -> None:
    code = """
        import os, sys
        def run(batch):
            print("{}" * 100_000)
            os.write(1, b"x" * 200_000)
            os.system("echo from a shell")
            assert sys.stdin.read() == ""
            return {"x": batch["n"]}
        """

    assert values(worked(code, 5)) == [0, 1, 2, 3, 4]


def test_nonsense_on_our_pipe_is_a_death_and_no_more() -> None:
    code = """
        import os
        def run(batch):
            if 3 in batch["n"].to_pylist():
                for file in range(3, 20):
                    try:
                        os.write(file, b"\\xff" * 64)
                    except OSError:
                        pass
            return {"x": batch["n"]}
        """

    outcome = worked(code, 8)

    assert list(rejected(outcome)) == [3]
    assert rejected(outcome)[3] == "it wrote nonsense to us"


def test_its_process_sees_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    code = "import os\ndef run(batch):\n    return {'x': ['|'.join(os.environ)] * len(batch)}\n"

    seen = set(values(worked(code, 1, columns={"x": "VARCHAR"}))[0].split("|"))

    assert "SHOP_PASSWORD" not in seen
    assert seen <= {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "ARROW_DEFAULT_MEMORY_POOL"}


def test_its_process_loads_neither_beam_nor_duckdb_nor_the_house() -> None:
    code = "import sys\ndef run(batch):\n    return {'x': ['|'.join(sys.modules)] * len(batch)}\n"

    loaded = {name.split(".")[0] for name in values(worked(code, 1, columns={"x": "VARCHAR"}))[0].split("|")}

    assert not loaded & {"apache_beam", "duckdb", "pydantic", "pandas", "pipelines", "transforms"}


def test_one_process_works_all_batches_and_ends_with_the_node() -> None:
    sandbox = Sandbox()
    code = "import os\ndef run(batch):\n    return {'x': [os.getpid()] * len(batch)}\n"
    step = Python(code=code, columns={"x": "BIGINT"}).open(SCHEMA, Scope(Path()), sandbox)
    batch = pa.RecordBatch.from_pylist([{"n": 1}], schema=SCHEMA)

    pids = {value for _ in range(3) for value in values(step(batch))}
    del step
    gc.collect()

    sandbox.close()
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids.pop(), 0)


def test_what_it_started_ends_with_it() -> None:
    code = """
        import subprocess
        def run(batch):
            return {"x": [subprocess.Popen(["sleep", "600"]).pid] * len(batch)}
        """

    pid = values(worked(code, 1))[0]
    gc.collect()

    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)
