"""What every model of the flow language is: frozen, strict, and documented by the string under each field."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Model(BaseModel):
    """A frozen model that takes no unknown field. Its JSON Schema describes each field by the string under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants", defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        made: dict[str, Any] = handler(core_schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        texts = field_texts(cls)
        for name, field in cls.model_fields.items():
            place = properties.get(name if name in properties else field.alias or name)
            if place is not None and name in texts:
                place.setdefault("description", texts[name])
        return made


@cache
def field_texts(kind: type) -> dict[str, str]:
    """The string under each field of a class and of those it derives from.

    Read from the source only when somebody asks: at every start it would cost more than all else that a model needs.
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseModel) and base not in (BaseModel, Model):
            found.update(_own_texts(base))
    return found


def _own_texts(kind: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
