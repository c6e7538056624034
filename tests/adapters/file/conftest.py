"""The servers that tests of files ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.file.store_room import Room, on_s3, on_sftp


@pytest.fixture(params=["s3", "sftp"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    """A folder on each kind of server."""
    server = request.getfixturevalue(request.param)
    return on_s3(server, tmp_path) if request.param == "s3" else on_sftp(server, tmp_path)
