"""Processes that never use pandas never load it, and those that do still can."""

from __future__ import annotations

import subprocess
import sys

import pytest

ARROW = """
import pipelines.records, sys
import pyarrow as pa
made = pa.schema([pa.field("n", pa.int64())]).empty_table().num_rows, pa.array([1, 2]).to_pylist()
print("pandas" in sys.modules)
"""

BEAM = """
import sys
from pipelines.lean import importing_beam
import pipelines.records
with importing_beam():
    import apache_beam
print("pandas" in sys.modules)
"""

ASKED = """
import pipelines.records
import pyarrow as pa
import pandas
frame = pa.table({"n": [1, 2]}).to_pandas()
back = pa.Table.from_pandas(frame)
print(isinstance(frame, pandas.DataFrame) and back.column("n").to_pylist() == [1, 2])
"""


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        pytest.param(ARROW, "False", id="arrays of Python values do not load it"),
        pytest.param(BEAM, "False", id="Beam does not load it"),
        pytest.param(ASKED, "True", id="conversions asked for by name work"),
    ],
)
def test_pandas_is_loaded_only_where_it_is_asked_for(program: str, answer: str) -> None:
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert (said.stdout.split(), said.stderr) == ([answer], "")
