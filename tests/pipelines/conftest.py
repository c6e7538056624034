"""What tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.sql.sandbox import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    opened = Sandbox()
    yield opened
    opened.close()
