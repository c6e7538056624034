"""What every node type must keep to, ours or a stranger's, as test classes for pytest.

    from pipelines.conformance import TransformConformance
    from my_nodes.shout import Shout


    class TestShout(TransformConformance):
        node = Shout

The node's examples are the data. Where they need more than files in the project folder (a database, a server), override
`prepare`; for a get, `grow` lets records arrive; for a post, `delivered` reads the target.

A system that is both read and written is held by `SystemConformance` to the values at the edge of every type and to bad days:
its `rig` is a place where records go in and come out again, and it declares what the system cannot hold.
"""

import pytest

# before they are imported, so that what fails shows its values
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{each}"
        for each in ("baddays", "examples", "exchanges", "gets", "nested", "nodes", "posts", "transforms", "wides")
    )
)

from pipelines.conformance.examples import batch_of, run_example, same_records  # noqa: E402
from pipelines.conformance.exchanges import Rig  # noqa: E402
from pipelines.conformance.gets import GetConformance  # noqa: E402
from pipelines.conformance.nested import NestedConformance  # noqa: E402
from pipelines.conformance.nodes import NodeConformance  # noqa: E402
from pipelines.conformance.posts import PostConformance  # noqa: E402
from pipelines.conformance.systems import SystemConformance  # noqa: E402
from pipelines.conformance.transforms import TransformConformance  # noqa: E402
from pipelines.conformance.wides import WideConformance  # noqa: E402

__all__ = [
    "GetConformance",
    "NestedConformance",
    "NodeConformance",
    "PostConformance",
    "Rig",
    "SystemConformance",
    "TransformConformance",
    "WideConformance",
    "batch_of",
    "run_example",
    "same_records",
]
