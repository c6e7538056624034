"""The catalogue's database: opened safely for several processes, its tables made or brought up to date."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from pipelines.errors import Invalid, Unavailable
from repository.schema import HEAD

BUSY_SECONDS = 30
"""How long a process waits for another's transaction. Each takes milliseconds."""
LOG_AHEAD = "PRAGMA journal_mode = WAL"
"""Stays with the file: the first process that opens it switches it over."""


class Store:
    """A database with the catalogue's tables."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        if self._url.get_backend_name() == "sqlite" and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(self._url)
        self.close = weakref.finalize(self, self._engine.dispose)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        with self._faults():
            if self._version() != HEAD:
                self._upgrade()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that holds no lock between statements."""
        with self._faults(), self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: all of it happens or nothing."""
        with self._faults(), self._engine.begin() as connection:
            yield connection

    def _version(self) -> str | None:
        """The migration that the tables are at, by plain SQL: Alembic takes long to import."""
        try:
            with self._engine.connect() as connection:
                auto = connection.execution_options(isolation_level="AUTOCOMMIT")
                return auto.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        except (OperationalError, ProgrammingError) as fault:
            if "alembic_version" not in str(fault.orig):
                raise
            return None

    def _upgrade(self) -> None:
        """Runs the migrations that are missing, in one transaction: of several processes the first does it."""
        import alembic.command
        import alembic.config
        from alembic.util import CommandError

        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            try:
                alembic.command.upgrade(config, "head")
            except CommandError as fault:
                raise Invalid(
                    f"catalogue {self._shown}: its tables are of another version ({fault}); "
                    "install the version of ProcessFlow that made it, or a newer one"
                ) from fault

    @property
    def _shown(self) -> str:
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as fault:
            raise Unavailable(f"catalogue {self._shown}: {fault.orig}; is its disk or server there?") from fault


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin_sqlite` does
    for pragma in (f"busy_timeout = {BUSY_SECONDS * 1000}", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    try:
        connection.execute(LOG_AHEAD)
    except sqlite3.OperationalError:  # of processes that meet in a new file, SQLite lets none wait for another here
        from tenacity import Retrying, stop_after_delay, wait_random

        again = Retrying(stop=stop_after_delay(BUSY_SECONDS), wait=wait_random(0.005, 0.05), reraise=True)
        again(connection.execute, LOG_AHEAD)


def _begin_sqlite(connection: sa.Connection) -> None:
    """Takes the write lock at once: a transaction that began with reading could not wait for it later."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
