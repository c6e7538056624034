"""Collects the problems of a flow, without running or needing Beam."""

from __future__ import annotations

from collections.abc import Mapping

from repository.project import Project

from agent.prepare import Request, check_flow
from pipelines.errors import Invalid, Problem


def problems_of(project: Project, flow: str, environment: str, values: Mapping[str, object]) -> tuple[Problem, ...]:
    """Every problem and warning of a flow, in the order of its text."""
    try:
        return check_flow(Request(project, flow, environment, values)).checked.problems
    except Invalid as fault:
        return fault.problems
