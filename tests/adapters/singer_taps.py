"""Where tests install Singer taps: once for all processes of the session."""

from __future__ import annotations

from pathlib import Path

from repository.project import Project

ODD_TAP = Path(__file__).parent.parent / "parts" / "odd_tap"
"""A tap of our own, which does badly what it is told to."""


def with_taps(made: Project, taps: Path) -> Project:
    """The project, whose taps are installed in that folder."""
    (made.folder / ".processflow").mkdir(exist_ok=True)
    (made.folder / ".processflow" / "taps").symlink_to(taps)
    return made
