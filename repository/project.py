"""Where a project keeps what it runs with: the folder `.processflow`, or the place that `PROCESSFLOW_HOME` names.

```
.processflow/
    catalogue.db     runs, positions, flow versions
    lake/            the data logs
    staging/RUN/     a run's own files, gone when it has ended
    spool/           what waits to be told to a control plane
```
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

HOME_VARIABLE = "PROCESSFLOW_HOME"
HOME = ".processflow"


@dataclass(frozen=True)
class Project:
    """A user's project folder, and where its run data is: at `home`, else where the variable says, else in the folder.

    A relative `home` starts at the folder.
    """

    folder: Path
    home: Path = field(default_factory=lambda: Path(os.environ.get(HOME_VARIABLE) or HOME))

    def __post_init__(self) -> None:
        folder = self.folder.expanduser().absolute()
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "home", folder / self.home.expanduser())

    @property
    def catalogue_url(self) -> str:
        """The catalogue's address."""
        return f"sqlite:///{self.home / 'catalogue.db'}"

    @property
    def lake(self) -> Path:
        """The root of the data logs."""
        return self.home / "lake"

    @property
    def spool(self) -> Path:
        """What waits to be told to a control plane."""
        return self.home / "spool"

    def staging(self, run: str) -> Path:
        """The folder of a run's own files."""
        return self.home / "staging" / run

    def prepare(self) -> None:
        """Makes the folder where it is missing, so that no version control takes it in."""
        self.home.mkdir(parents=True, exist_ok=True)
        ignore = self.home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", "utf-8")
