"""Collects the problems of a flow, without running or needing Beam."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.prepare import Request, flow_path, scope_of
from pipelines import flowfile
from pipelines.check import check_file
from pipelines.errors import Invalid, Problem
from pipelines.parameters import values as parameter_values
from pipelines.sql.sandbox import Sandbox
from repository.project import Project


def problems_of(project: Project, flow: str, environment: str, values: Mapping[str, object]) -> tuple[Problem, ...]:
    """Every problem and warning of a flow, in the order of its text, also where parts of it cannot be read."""
    request = Request(project, flow, environment, values)
    try:
        path = flow_path(project, flow)
        scope = scope_of(request)
        made = flowfile.draft(flowfile.read_text(path), str(path)).flow
    except Invalid as fault:
        return fault.problems
    unset: tuple[Problem, ...] = ()
    sandbox = Sandbox.borrow(scope)
    try:
        scope = replace(scope, values=parameter_values(made, scope.environment, values, sandbox))
    except Invalid as fault:
        unset = fault.problems
    finally:
        sandbox.give_back()
    told = check_file(path, scope).problems
    places = {problem.at[:2] for problem in told}
    return (*told, *(problem for problem in unset if problem.at not in places))
