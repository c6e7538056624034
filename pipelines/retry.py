"""Asks an unavailable system again, with longer and longer waits, and not through a wish to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from pipelines.errors import Unavailable
from pipelines.flow import Retry
from pipelines.job import Stop

T = TypeVar("T")


def attempts(policy: Retry, stop: Stop, told: Callable[[int, Exception], None]) -> Retrying:
    """The attempts that `policy` allows: call it with a function, or iterate. `told` hears of each that failed."""

    def tell(state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, Exception):
            told(state.attempt_number, fault)

    return Retrying(
        retry=retry_if_exception(may_work_later),
        stop=stop_after_attempt(policy.attempts),
        wait=lambda state: policy.pause_seconds(state.attempt_number),
        sleep=stop.wait,
        before_sleep=tell,
        reraise=True,
    )


def may_work_later(fault: BaseException) -> bool:
    """Whether to ask again: the system is away, and whoever asked has not done so already."""
    return isinstance(fault, Unavailable) and not fault.asked_again
