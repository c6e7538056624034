"""Every error this project raises on purpose, named by what the reader should do.

* FlowError
  + Invalid        what was given is wrong: edit it       never retried
  + Unavailable    the other system is away: wait         retried with back-off
    + Lost         what this run leans on is gone         a new run can, this one not
  + Failed         the run stopped by its own rules       read its report
  + Cancelled      somebody stopped it                    run it again
  + Bug            we are wrong: report it                never retried

A bad record is none of these: it is a value, a reject.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.node import Outcome


@dataclass(frozen=True, order=True)
class Problem:
    """One fault of what was given: where, what is wrong, what would be right.

    `path` is the file as the user named it, `line` and `column` count from 1 (0: the whole file),
    `at` is the place inside the document, such as `("nodes", "erp", "form")`.
    """

    path: str
    line: int
    column: int
    what: str
    fix: str = ""
    at: tuple[str | int, ...] = ()
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}: " if self.line else f"{self.path}: " if self.path else ""
        return f"{place}{self.what}" + (f"; {self.fix}" if self.fix else "")


class FlowError(Exception):
    """What every error of this project is."""

    exit_code = 70


class Invalid(FlowError):
    """What was given is wrong: edit it. Carries every problem found, in the order of the text."""

    exit_code = 2

    def __init__(self, what: str | Problem | Iterable[Problem]) -> None:
        if isinstance(what, str):
            what = Problem("", 0, 0, what)
        self.problems: tuple[Problem, ...] = (what,) if isinstance(what, Problem) else tuple(what)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[Invalid], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class Unavailable(FlowError):
    """The other system is away, or refuses for now: what was asked may work later."""

    exit_code = 3

    def __init__(self, what: str = "", *, asked_again: bool = False) -> None:
        super().__init__(what)
        self.asked_again = asked_again
        """Whether it has been asked as often as its connection says: nobody need ask again in this run."""


class Lost(Unavailable):
    """What a run leans on, such as a snapshot, is gone: asking again is of no use, a new run begins anew."""

    def __init__(self, what: str = "") -> None:
        super().__init__(what, asked_again=True)


class Failed(FlowError):
    """The run stopped by its own rules: too many rejects, a ledger that does not balance."""

    exit_code = 1


class Cancelled(FlowError):
    """Somebody stopped the run."""

    exit_code = 1


class Bug(FlowError):
    """We are wrong: report it."""

    exit_code = 70


class Interrupted(Exception):
    """A direct post cannot go on in the middle of a batch: it is not put again, and the run ends with the fault `why`.

    `outcome` tells what had become of the records sent before: their receipts and rejects are kept.
    """

    def __init__(self, why: FlowError, outcome: Outcome) -> None:
        super().__init__(str(why))
        self.why = why
        self.outcome = outcome
