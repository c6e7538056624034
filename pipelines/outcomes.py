"""What an outcome says of its records."""

from __future__ import annotations

import numpy as np

from pipelines.node import Outcome


def created(outcome: Outcome) -> int:
    """How many records left beyond one for each input row that left at all."""
    left = sum(piece.batch.num_rows for piece in outcome.out.values())
    if all(piece.rows is None for piece in outcome.out.values()) and len(outcome.out) <= 1:
        return 0
    rows = [
        np.arange(piece.batch.num_rows) if piece.rows is None else piece.rows.to_numpy(zero_copy_only=False)
        for piece in outcome.out.values()
    ]
    if len(rows) == 1 and bool(np.all(rows[0][1:] > rows[0][:-1])):
        return 0
    return left - len(np.unique(np.concatenate(rows)))
