"""The top-level names of the house: an application's own, in an environment of its own."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

ROOMS = ("pipelines", "transforms", "adapters", "repository", "agent", "cli")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_no_name_of_the_standard_library(room: str) -> None:
    assert room not in sys.stdlib_module_names


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_distribution_of_the_environment_brings_a_package_of_the_name(room: str) -> None:
    providers = set(metadata.packages_distributions().get(room, ()))

    assert providers <= {"processflow"}


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_in_site_packages_carries_the_name(room: str) -> None:
    places = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}

    found = [path for place in places for path in place.glob(f"{room}*") if path.name.split(".")[0] == room]

    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_name_gives_this_checkout_s_room(room: str, repository_root: Path) -> None:
    spec = importlib.util.find_spec(room)

    assert spec is not None
    assert Path(spec.origin or "").parent == repository_root / room
