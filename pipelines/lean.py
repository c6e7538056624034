"""Keeps libraries out of processes that never use them: Arrow and Beam load them where they find them, for some 0.5 s."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

import pyarrow as pa

PANDAS = "pandas"
UNUSED = (PANDAS, "pymongo", "bson", "boto3")
"""What Beam imports where it is there, for types and sources that no pipeline of ours has."""


def settle_arrow() -> None:
    """Lets Arrow find, once, that it does without pandas.

    Arrow looks for pandas when the first array is made of Python values, and keeps the answer; shown one too old, it
    goes on without. A conversion that is asked for by name, such as `to_pandas`, looks again and works.
    """
    if PANDAS in sys.modules:
        return
    too_old = ModuleType(PANDAS)
    too_old.__version__ = "0"  # type: ignore[attr-defined]
    sys.modules[PANDAS] = too_old
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pa.array([0])
    finally:
        del sys.modules[PANDAS]


@contextmanager
def importing_beam() -> Iterator[None]:
    """Beam imported inside takes what it can do without for absent, and keeps to itself what it misses.

    Afterwards all of it can be imported as ever. Not for use beside other threads that import.
    """
    remarks = logging.root.manager.disable
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent, cast("ModuleType", None)))
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(remarks)
        for name in absent:
            del sys.modules[name]
