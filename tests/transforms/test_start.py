"""What starts a flow: every trigger's model says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.triggers import seconds_of
from transforms.start import Entry


@pytest.mark.parametrize(
    "trigger",
    [
        {"schedule": "*/15 * * * *", "timezone": "Europe/Berlin"},
        {"schedule": "0 6,18 1-7 jan-mar mon-fri"},
        {"schedule": "5 4 L * *"},
        {"schedule": "0 0 * * 7"},
        {"schedule": "0-30/10 * * * SUN"},
        {"every": "15 minutes"},
        {"every": "1 hour"},
        {"webhook": "orders"},
        {"kafka": "orders", "connection": "events"},
        {"file": "inbox/*.csv"},
        {"flow": "web-orders", "status": "any"},
    ],
)
def test_a_sound_trigger_is_taken(trigger: dict[str, str]) -> None:
    assert Entry.model_validate({"on": [trigger]}).on[0].model_dump(exclude_unset=True) == trigger


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"schedule": "* * * *"}, "five fields"),
        ({"schedule": "60 * * * *"}, "minute: '60' is none; it goes from 0 to 59"),
        ({"schedule": "* 24 * * *"}, "hour"),
        ({"schedule": "* * 0 * *"}, "day of the month"),
        ({"schedule": "* * * foo *"}, "month: 'foo' is none; it goes from 1 to 12 or jan to dec"),
        ({"schedule": "* * * * 8"}, "day of the week"),
        ({"schedule": "*/0 * * * *"}, "has no step"),
        ({"schedule": "30-10 * * * *"}, "runs backwards"),
        ({"schedule": "1, * * * *"}, "minute: '' is none"),
        ({"schedule": "-1 * * * *"}, "minute"),
        ({"schedule": "* * * * *", "timezone": "Berlin"}, "no time zone; write one of the IANA names"),
        ({"every": "15"}, "no interval"),
        ({"every": "0 minutes"}, "no interval"),
        ({"every": "a while"}, "such as '15 minutes'"),
        ({"webhook": "Orders!"}, "webhook"),
        ({"kafka": "orders"}, "connection"),
        ({"flow": "Web Orders"}, "flow"),
        ({"flow": "x", "status": "perhaps"}, "status"),
        ({"at": "noon"}, "one of schedule, every, webhook, kafka, file, flow"),
        ("* * * * *", "one of schedule, every, webhook, kafka, file, flow"),
        ({"every": "1 day", "timezone": "UTC"}, "timezone"),
    ],
)
def test_a_wrong_trigger_says_what_would_be_right(trigger: Any, words: str) -> None:
    with pytest.raises(ValidationError) as fault:
        Entry.model_validate({"on": [trigger]})

    assert words in str(fault.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1 second", 1), ("15 minutes", 900), ("2 hours", 7200), ("1 day", 86_400), ("3 weeks", 1_814_400)],
)
def test_an_interval_is_a_number_of_seconds(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds
