"""The walls between the rooms: who may import whom, and what no import may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOMS = ("pipelines", "transforms", "adapters", "repository", "agent", "cli")
BEAM = {"pipelines.compile", "pipelines.coder", "agent.execute"}
"""The only modules that import Beam; the rest import these inside functions."""

CONTROL_PLANE = {"fastapi", "uvicorn", "sqlalchemy", "alembic", "great_expectations", "pandas", "typer", "rich"}

LOADED_BY_IMPORTING = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print("\\n".join(sorted({name.split(".")[0] for name in sys.modules})))
"""


def modules(root: Path, *rooms: str) -> dict[str, Path]:
    """Module names and files of rooms."""
    found = {}
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            if "migrations" in path.parts:  # run by Alembic, which gives them what they read
                continue
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def loaded_by(names: list[str], root: Path) -> set[str]:
    """Top-level packages in memory after importing `names` in a process of their own."""
    answer = subprocess.run(
        [sys.executable, "-c", LOADED_BY_IMPORTING, ",".join(names)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


def test_the_import_contracts_are_kept(repository_root: Path) -> None:
    command = Path(sys.executable).with_name("lint-imports")

    answer = subprocess.run(
        [command, "--no-logo", "--no-cache"], cwd=repository_root, capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0, answer.stdout


def test_only_the_compiler_the_coder_and_the_executor_import_beam(repository_root: Path) -> None:
    importers = set()
    for name, path in modules(repository_root, *ROOMS).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module]
            if any(one.split(".")[0] == "apache_beam" for one in imported):
                importers.add(name)

    assert importers <= BEAM


def test_importing_every_other_module_does_not_load_beam(repository_root: Path) -> None:
    names = [name for name in modules(repository_root, *ROOMS) if name not in BEAM]

    loaded = loaded_by(names, repository_root)

    assert "apache_beam" not in loaded


def test_importing_what_travels_to_workers_loads_no_library_of_the_control_plane(repository_root: Path) -> None:
    names = [name for name in modules(repository_root, "pipelines", "transforms", "adapters") if name not in BEAM]

    loaded = loaded_by(names, repository_root)

    assert loaded & CONTROL_PLANE == set()
