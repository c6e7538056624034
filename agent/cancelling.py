"""Stops a run from outside of its process."""

from __future__ import annotations

import os
import signal
import time

from agent.report import Report
from agent.runs import Host
from pipelines.errors import Invalid, Unavailable
from repository.project import Project

PAUSE_SECONDS = 0.05


def cancel(project: Project, run: str, wait_seconds: float = 30.0) -> Report:
    """Asks a run to stop, waits for its end, and gives its report.

    What was staged and not yet published is removed by the run itself; where something had been published it is kept, so
    that the run can be finished. A run whose process died is ended here, one that waits to be finished is given up.

    Raises:
        Invalid: it has ended.
        Unavailable: it is of another machine, or takes longer to stop than there was time to wait.
    """
    host = Host(project)
    try:
        name = host.catalogue.report(run)["run"]
        owner = host.catalogue.owner(name)
        if owner is None:
            raise Invalid(f"run {name} has ended: {host.catalogue.report(name)['status'].replace('_', ' ')}")
        if not owner.is_here:
            raise Unavailable(f"run {name} is of machine {owner.host}; cancel it there")
        if not owner.since:
            return host.give_up(name)
        if not owner.is_alive:
            host.recover(host.catalogue.report(name)["flow"])
            return host.catalogue.report(name)
        os.kill(owner.pid, signal.SIGTERM)
        until = time.monotonic() + wait_seconds
        while host.catalogue.owner(name) == owner and owner.is_alive:
            if time.monotonic() > until:
                raise Unavailable(
                    f"run {name} (process {owner.pid}) was asked to stop and has not ended in {wait_seconds:g} s; "
                    "it stops after the call it is at"
                )
            time.sleep(PAUSE_SECONDS)
        if host.catalogue.owner(name) == owner:
            host.recover(host.catalogue.report(name)["flow"])  # where the signal ended its process at once
        return host.catalogue.report(name)
    finally:
        host.close()
