"""Finds values in answers by JMESPath (https://jmespath.org/specification.html)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pipelines.errors import Invalid

HEADER = "header:"
"""What a place begins with that is a header of the answer."""
STEPS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
"""Paths that are nothing but names: a page's text can be cut by them without being taken apart."""


@lru_cache(maxsize=512)
def _compiled(path: str) -> Any:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.compile(path)
    except JMESPathError as fault:
        raise Invalid(f"{path!r} is no JMESPath: {' '.join(str(fault).split())}") from fault


def found_at(path: str, document: Any) -> Any:
    """What stands at a place of a document; None where nothing does, or what is there is of another kind."""
    from jmespath.exceptions import JMESPathError

    try:
        return _compiled(path).search(document)
    except JMESPathError:
        return None


def steps(path: str | None) -> tuple[str, ...] | None:
    """The names of a path that is nothing but names; None where it is more."""
    if path is None or path == "@":
        return ()
    return tuple(path.split(".")) if STEPS.fullmatch(path) else None


def _one_that_compiles(path: str) -> str:
    try:
        if not path.startswith(HEADER):
            _compiled(path)
    except Invalid as fault:
        raise ValueError(str(fault)) from fault
    return path


JmesPath = Annotated[str, AfterValidator(_one_that_compiles), Field(json_schema_extra={"format": "jmespath"})]
"""A place in an answer."""
