"""Processes that never use pandas or a Mongo client never load them, and those that do still can."""

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
print(bool({"pandas", "pymongo", "bson", "boto3"} & set(sys.modules)))
"""

LATER = """
from pipelines.lean import importing_beam
with importing_beam():
    import apache_beam
import pandas, pymongo, bson
print(True)
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
        pytest.param(BEAM, "False", id="Beam does not load them"),
        pytest.param(LATER, "True", id="afterwards they can be imported"),
        pytest.param(ASKED, "True", id="conversions asked for by name work"),
    ],
)
def test_libraries_are_loaded_only_where_they_are_asked_for(program: str, answer: str) -> None:
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert (said.stdout.split(), said.stderr) == ([answer], "")
