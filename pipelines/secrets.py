"""Secrets by name: a flow or connection names one, its value is fetched at the moment of use and never kept."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

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


def address_of(field: str, url: str, instead: str, *, takes_user: bool = False) -> SplitResult:
    """The parts of an address, which is shown in messages and so holds no password, and no user unless it takes one.

    Raises:
        ValueError: it holds one, or what is no port, as a password with a `/` in it seems to be.
    """
    place = urlsplit(url)
    if place.password is not None or (place.username is not None and not takes_user):
        held = "a password" if takes_user else "a user or password"
        raise ValueError(f"`{field}` holds {held}; name it in {instead} instead")
    try:
        _port = place.port
    except ValueError:
        raise ValueError(
            f"`{field}` has a port that is no number, or holds a password; name that in {instead}"
        ) from None
    return place


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
