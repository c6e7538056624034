"""What every adapter must do that is both read and written: keep values as they are, and stand bad days."""

from __future__ import annotations

from pipelines.conformance.baddays import BadDayConformance
from pipelines.conformance.exchanges import ExchangeConformance


class SystemConformance(ExchangeConformance, BadDayConformance):
    """Derive, and give a `rig`, the `mistakes` that can be made, a `line` with the stages at which it may be cut, and what the
    system cannot hold."""
