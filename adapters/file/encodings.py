"""How characters are written, as a field of a node: a name that Python knows."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import AfterValidator


def _encoding(name: str) -> str:
    try:
        " ".encode(codecs.lookup(name).name)  # what is no encoding of text, such as hex, refuses
    except LookupError as fault:
        raise ValueError(f"{name!r} is no encoding of text; such as utf-8, latin-1, cp1252, utf-16") from fault
    return name


Encoding = Annotated[str, AfterValidator(_encoding)]
