"""Secrets by name: a flow or connection names one, its value is fetched at the moment of use and never kept."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.errors import Invalid
from pipelines.model import Model

FOLDER = Path(".processflow", "secrets")


class Secret(Model):
    """A value that is only ever named."""

    secret: str
    """The secret's name: an environment variable, or a file of that name in `.processflow/secrets/`."""

    def reveal(self, project: Path) -> str:
        """The value: from the environment variable, the file that `NAME_FILE` names, or the project's secrets folder."""
        found = find(self.secret, project)
        if found is None:
            raise Invalid(f"secret {self.secret!r} has no value; {where(self.secret)}")
        return found


def find(name: str, project: Path) -> str | None:
    """The secret's value, or None where nothing gives one."""
    if name in os.environ:
        return os.environ[name]
    named = os.environ.get(f"{name}_FILE")
    file = Path(named) if named else project / FOLDER / name
    return file.read_text(encoding="utf-8").rstrip("\n") if file.is_file() else None


def keep(name: str, value: str, project: Path) -> bool:
    """Keeps a new value where the secret's old one came from, if that is a file; whether it is."""
    named = os.environ.get(f"{name}_FILE")
    file = Path(named) if named else project / FOLDER / name
    if name in os.environ or not file.is_file():
        return False
    fresh = file.with_name(f".{file.name}.new")
    fresh.touch(0o600)
    fresh.write_text(value, encoding="utf-8")
    fresh.replace(file)
    return True


def where(name: str) -> str:
    """Where a secret's value may be put, for messages."""
    return f"set the environment variable {name}, or {name}_FILE to a file, or write it to {FOLDER / name}"
