"""What starts a flow: the entries of the start node's `on`, each known by its first word."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag

from pipelines.model import Model

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
CRON = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, DAYS),
)
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_EVERY = re.compile(rf"(\d{{1,9}}) ({'|'.join(UNITS)})s?")


def cron(text: str) -> str:
    """A schedule in cron's five fields; says which of them is wrong.

    The syntax is that of crontab(5), https://man7.org/linux/man-pages/man5/crontab.5.html, with `L` for a month's last day.
    """
    fields = text.split()
    if len(fields) != len(CRON):
        raise ValueError(
            f"a schedule has five fields (minute, hour, day of the month, month, day of the week), this one {len(fields)}: "
            "such as '*/15 * * * *'"
        )
    for value, (name, least, most, words) in zip(fields, CRON, strict=True):
        for item in value.split(","):
            _check_item(item, name, least, most, words)
    return text


def _check_item(item: str, name: str, least: int, most: int, words: tuple[str, ...]) -> None:
    ends, slash, step = item.partition("/")
    if slash and not (step.isdecimal() and int(step) > 0):
        raise ValueError(f"{name}: {item!r} has no step; a step is a number from 1 on, such as */5")
    if ends == "*" or (name == "day of the month" and item in ("L", "l")):
        return
    first, dash, last = ends.partition("-")
    numbers = [_number(end, name, least, most, words) for end in ((first, last) if dash else (first,))]
    if numbers != sorted(numbers):
        raise ValueError(f"{name}: {item!r} runs backwards; write the lower end first, or two ranges")


def _number(text: str, name: str, least: int, most: int, words: tuple[str, ...]) -> int:
    if text.lower() in words:
        return words.index(text.lower()) + least
    if text.isdecimal() and text.isascii() and least <= int(text) <= most:
        return int(text)
    named = f" or {words[0]} to {words[-1]}" if words else ""
    raise ValueError(f"{name}: {text!r} is none; it goes from {least} to {most}{named}")


def zone(text: str) -> str:
    """A time zone of the IANA database."""
    if text not in _zones():
        raise ValueError(f"{text!r} is no time zone; write one of the IANA names, such as Europe/Berlin or UTC")
    return text


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def seconds_of(every: str) -> int:
    """The seconds between two runs."""
    found = _EVERY.fullmatch(every.strip())
    if found is None or int(found[1]) < 1:
        raise ValueError(f"{every!r} is no interval; write a number and {', '.join(UNITS)}, such as '15 minutes'")
    return int(found[1]) * UNITS[found[2]]


def _every(text: str) -> str:
    seconds_of(text)
    return text


class Schedule(Model):
    """Starts the flow at times of the calendar."""

    schedule: Annotated[str, AfterValidator(cron)] = Field(examples=["*/15 * * * *", "0 6 * * mon-fri"])
    """Minute, hour, day of the month, month and day of the week, as in a crontab."""
    timezone: Annotated[str, AfterValidator(zone)] = "UTC"
    """Where the clock hangs: a name of the IANA database."""


class Every(Model):
    """Starts the flow again and again."""

    every: Annotated[str, AfterValidator(_every)] = Field(examples=["30 seconds", "15 minutes", "1 day"])
    """The time from one start to the next: a number and second, minute, hour, day or week."""


class Webhook(Model):
    """Starts the flow when it is called over HTTP; what the call brings are the records that leave by `out`."""

    webhook: str = Field(pattern=r"^[a-z0-9][a-z0-9_/-]*$", examples=["orders"])
    """The end of its address: lower-case letters, digits, -, _ and /."""


class Kafka(Model):
    """Starts the flow for messages of a topic."""

    kafka: str = Field(min_length=1, examples=["orders"])
    """The topic."""
    connection: str
    """The connection to its cluster."""


class File(Model):
    """Starts the flow when files arrive."""

    file: str = Field(min_length=1, examples=["inbox/*.csv"])
    """Their path, with * for what varies."""
    connection: str | None = None
    """The connection to where they arrive; none for a local folder."""


class After(Model):
    """Starts the flow when another has ended."""

    flow: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", examples=["web-orders"])
    """The other flow."""
    status: Literal["done", "failed", "any"] = "done"
    """How it must have ended."""


WORDS: Mapping[str, type[BaseModel]] = {
    "schedule": Schedule,
    "every": Every,
    "webhook": Webhook,
    "kafka": Kafka,
    "file": File,
    "flow": After,
}


def word_of(value: Any) -> str | None:
    """The word that tells a trigger's kind."""
    if isinstance(value, BaseModel):
        return next((word for word, model in WORDS.items() if isinstance(value, model)), None)
    return next((word for word in WORDS if isinstance(value, Mapping) and word in value), None)


Trigger = Annotated[
    Annotated[Schedule, Tag("schedule")]
    | Annotated[Every, Tag("every")]
    | Annotated[Webhook, Tag("webhook")]
    | Annotated[Kafka, Tag("kafka")]
    | Annotated[File, Tag("file")]
    | Annotated[After, Tag("flow")],
    Discriminator(
        word_of,
        custom_error_type="trigger",
        custom_error_message="what starts a flow is one of schedule, every, webhook, kafka, file, flow",
    ),
]
"""One thing that starts a flow."""
