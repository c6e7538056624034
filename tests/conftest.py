"""What all tests share: generated data is the same for everybody, and nothing of this machine leaks in.

The real systems are fixtures here. Each starts when the first test asks for it, and serves all processes of the session.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.parts import sharing

if TYPE_CHECKING:
    from tests.parts import clouds as cloud_parts
    from tests.parts import kafka as kafka_parts
    from tests.parts import mariadb as mariadb_parts
    from tests.parts import postgres as postgres_parts
    from tests.parts import s3 as s3_parts
    from tests.parts import sftp as sftp_parts
    from tests.parts import smtp as smtp_parts

settings.register_profile("house", deadline=None, max_examples=50, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The folder of this checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any, str], AbstractContextManager[Any]]:
    """Gives a system that all processes of the session share, by its maker and a name."""
    base = tmp_path_factory.getbasetemp()
    return lambda made, name: sharing.shared(made, sharing.place(base, name))


@pytest.fixture(scope="session")
def postgres(share: Any) -> Iterator[postgres_parts.Server]:
    """A PostgreSQL server."""
    from tests.parts.postgres import Server

    with share(Server.made, "postgres") as found:
        yield found


@pytest.fixture(scope="session")
def secured_postgres(share: Any) -> Iterator[postgres_parts.Server]:
    """A PostgreSQL server that speaks TLS."""
    from tests.parts.postgres import Server

    with share(Server.secured, "secured_postgres") as found:
        yield found


@pytest.fixture(scope="session")
def mariadb(share: Any) -> Iterator[mariadb_parts.Server]:
    """A MariaDB server."""
    from tests.parts.mariadb import Server

    with share(Server.made, "mariadb") as found:
        yield found


@pytest.fixture(scope="session")
def kafka(share: Any) -> Iterator[kafka_parts.Broker]:
    """A Kafka broker that takes everybody."""
    from tests.parts.kafka import Broker

    with share(Broker.made, "kafka") as found:
        yield found


@pytest.fixture(scope="session")
def secured_kafka(share: Any) -> Iterator[kafka_parts.Broker]:
    """A Kafka broker with TLS, passwords and access rules."""
    from tests.parts.kafka import Broker

    with share(Broker.secured, "secured_kafka") as found:
        yield found


@pytest.fixture(scope="session")
def s3(share: Any) -> Iterator[s3_parts.Server]:
    """A server that speaks S3."""
    from tests.parts.s3 import Server

    with share(Server.made, "s3") as found:
        yield found


@pytest.fixture(scope="session")
def google(share: Any) -> Iterator[cloud_parts.Google]:
    """A server that speaks as Google Cloud Storage does."""
    from tests.parts.clouds import Google

    with share(Google.made, "google") as found:
        yield found


@pytest.fixture(scope="session")
def azure(share: Any) -> Iterator[cloud_parts.Azure]:
    """A server that speaks as Azure's blob storage does."""
    from tests.parts.clouds import Azure

    with share(Azure.made, "azure") as found:
        yield found


@pytest.fixture(scope="session")
def sftp(share: Any) -> Iterator[sftp_parts.Server]:
    """An SFTP server."""
    from tests.parts.sftp import Server

    with share(Server.made, "sftp") as found:
        yield found


@pytest.fixture(scope="session")
def smtp(share: Any) -> Iterator[smtp_parts.Server]:
    """A server that takes mail."""
    from tests.parts.smtp import Server

    with share(Server.made, "smtp") as found:
        yield found
