"""What all tests share: generated data is the same for everybody, and nothing of this machine leaks in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, max_examples=50, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The folder of this checkout."""
    return Path(__file__).resolve().parents[1]
