"""The data logs: Parquet files under one root, written by the taps of a run and made visible by one commit.

```
<root>/_commits/RUN.json                                    what RUN has made visible, written last
<root>/records/flow=FLOW/date=YYYY-MM-DD/RUN.parquet        and RUN~….parquet where there is much
<root>/rejects/…  deliveries/…  transactions/…
<root>/runs/….merged.parquet  nodes/….merged.parquet        of runs whose manifests were merged
```

A file counts only when a manifest names it; none is ever changed. `repository.query` answers SQL over them.
"""

from __future__ import annotations

from pipelines.tap import Tap, TapPlan
from repository.commit import commit
from repository.tap import LakeTap

__all__ = ["commit", "open_tap"]


def open_tap(plan: TapPlan) -> Tap:
    """The tap of one worker thread of a run."""
    return LakeTap(plan)
