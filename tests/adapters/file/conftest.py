"""The servers that tests of files ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.file.store_room import Room, on_azure, on_google, on_s3, on_sftp


@pytest.fixture(params=["s3", "sftp", "google", "azure"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    """A folder on each kind of server."""
    server = request.getfixturevalue(request.param)
    on = {"s3": on_s3, "sftp": on_sftp, "google": on_google, "azure": on_azure}
    return on[request.param](server, tmp_path)
