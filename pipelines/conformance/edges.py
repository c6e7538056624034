"""Values at the edge of what types can hold, one list for all adapters: each comes back as it went, or is rejected by name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

DAY_MICROSECONDS = 86_400_000_000
FLOATS = {"not a number": float("nan"), "infinite": float("inf"), "minus infinite": float("-inf")}


@dataclass(frozen=True)
class Edge:
    """Values of one type, each by a name."""

    kind: pa.DataType
    values: Mapping[str, Any]

    def array(self) -> pa.Array:
        """The values in their order; whole numbers stand for times that Python has no objects of."""
        items = list(self.values.values())
        if pa.types.is_temporal(self.kind) and any(isinstance(item, int) for item in items):
            width = pa.int32() if self.kind.bit_width == 32 else pa.int64()
            return pa.array(items, width).view(self.kind)
        return pa.array(items, self.kind)


def _whole(kind: pa.DataType, bits: int, *, signed: bool) -> Edge:
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return Edge(kind, {"least": least, "most": most, "zero": 0})


TEXTS = {
    "empty": "",
    "a blank": " ",
    "blanks around": "  a  ",
    "NUL": "a\0b",
    "just NUL": "\0",
    "emoji": "\U0001f469\u200d\U0001f467 \U0001f3f4 \u2702\ufe0f",
    "composed": "\u00e9",
    "decomposed": "e\u0301",
    "right to left": "\u05e9\u05dc \u202eabc",
    "line ends": "a\nb\r\nc\rd\n",
    "tab": "\ta\t",
    "quotes": "\"it's\" 'a' `b`",
    "backslashes": "\\N \\n \\",
    "null as a word": "NULL",
    "marks of null": "\\N",
    "zeros before": "007",
    "an exponent": "1e5",
    "a truth": "true",
    "a formula": "=1+1",
    "JSON": '{"a": [1, null]}',
    "byte order mark": "\ufeffa",
    "separators of lines": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "control signs": "".join(map(chr, range(1, 32))) + "\x7f",
    "no character": "\uffff\U0002ffff",
    "a percent sign": "%s %(a)s $1 $name ? :a {b}",
    "a comma": "a,b;c|d",
    "long": "ä" * 100_000,
}
BYTES = {"empty": b"", "zero": b"\0", "all": bytes(range(256)), "no UTF-8": b"\xff\xfe\xc3(", "text": b"\\x00 abc'"}
NINES = "9" * 38


@functools.cache
def edges() -> Mapping[str, Edge]:
    """Every edge by its name, which is that of the column that carries it."""
    micro, nano = pa.timestamp("us"), pa.timestamp("ns")
    return {
        **{f"int{bits}": _whole(getattr(pa, f"int{bits}")(), bits, signed=True) for bits in (8, 16, 32, 64)},
        **{f"uint{bits}": _whole(getattr(pa, f"uint{bits}")(), bits, signed=False) for bits in (8, 16, 32, 64)},
        "float32": Edge(pa.float32(), {"a tenth": 0.1, "least": 1e-45, "most": 3.4028234663852886e38, **FLOATS}),
        "float64": Edge(
            pa.float64(),
            {"a tenth": 0.1, "least": 5e-324, "most": 1.7976931348623157e308, "seventeen digits": 0.30000000000000004,
             "beyond whole": 9007199254740994.0, **FLOATS},
        ),
        "whole decimal": Edge(pa.decimal128(38, 0), {"most": Decimal(NINES), "least": Decimal(f"-{NINES}"), "one": Decimal(1)}),
        "decimal": Edge(
            pa.decimal128(38, 10),
            {"most": Decimal(f"{NINES[10:]}.{NINES[:10]}"), "least": Decimal(f"-{NINES[10:]}.{NINES[:10]}"), "smallest": Decimal("0.0000000001")},
        ),
        "fraction": Edge(pa.decimal128(38, 38), {"most": Decimal(f"0.{NINES}"), "smallest": Decimal("1e-38")}),
        "wide decimal": Edge(pa.decimal256(60, 20), {"most": Decimal(f"{'9' * 40}.{'9' * 20}"), "one": Decimal(1)}),
        "boolean": Edge(pa.bool_(), {"true": True, "false": False}),
        "text": Edge(pa.string(), TEXTS),
        "large text": Edge(pa.large_string(), {"empty": "", "emoji": "🙂"}),
        "bytes": Edge(pa.binary(), BYTES),
        "four bytes": Edge(pa.binary(4), {"zeros": b"\0\0\0\0", "high": b"\xff\xff\xff\xff"}),
        "word": Edge(pa.dictionary(pa.int32(), pa.string()), {"empty": "", "emoji": "🙂", "NUL": "\0"}),
        "date": Edge(
            pa.date32(),
            {"year 1": date(1, 1, 1), "year 9999": date(9999, 12, 31), "no such day in 1582": date(1582, 10, 10),
             "leap": date(2024, 2, 29), "before 1970": date(1969, 12, 31)},
        ),
        "far date": Edge(pa.date32(), {"year 0": -719_163, "year 10000": 2_932_897, "last": 2**31 - 1, "first": -(2**31)}),
        "time": Edge(pa.time64("us"), {"midnight": time(0), "last": time(23, 59, 59, 999_999)}),
        "fine time": Edge(pa.time64("ns"), {"microseconds": 1_000, "nanoseconds": 1}),
        "time of seconds": Edge(pa.time32("s"), {"midnight": 0, "last": 86_399}),
        "no time": Edge(pa.time64("us"), {"24:00": DAY_MICROSECONDS, "below zero": -1}),
        "moment": Edge(
            micro,
            {"year 1": datetime(1, 1, 1), "year 9999": datetime(9999, 12, 31, 23, 59, 59, 999_999),  # noqa: DTZ001
             "skipped in Berlin": datetime(2026, 3, 29, 2, 30), "twice in Berlin": datetime(2026, 10, 25, 2, 30)},  # noqa: DTZ001
        ),
        "fine moment": Edge(nano, {"first": -(2**63) + 1, "last": 2**63 - 1, "microseconds": 1_000, "nanoseconds": 1}),
        "moment of seconds": Edge(pa.timestamp("s"), {"year 1": -62_135_596_800, "year 9999": 253_402_300_799}),
        "far moment": Edge(pa.timestamp("ms"), {"year 10000": 253_402_300_800_000, "last": 2**63 - 1, "first": -(2**63) + 1}),
        "instant": Edge(
            pa.timestamp("us", "UTC"),
            {"year 1": datetime(1, 1, 1, tzinfo=UTC), "year 9999": datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
             "summer begins": datetime(2026, 3, 29, 1, tzinfo=UTC)},
        ),
        "instant in Berlin": Edge(
            pa.timestamp("us", "Europe/Berlin"),
            {"before summer": datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC), "summer": datetime(2026, 3, 29, 1, tzinfo=UTC),
             "first 2:30": datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "second 2:30": datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
             "mean time": datetime(1880, 1, 1, tzinfo=UTC)},
        ),
        "fine instant": Edge(pa.timestamp("ns", "UTC"), {"microseconds": 1_000, "nanoseconds": 1}),
        "duration": Edge(pa.duration("us"), {"zero": 0, "a day": DAY_MICROSECONDS, "negative": -1}),
        "list": Edge(pa.list_(pa.int64()), {"empty": [], "of null": [None], "most": [2**63 - 1, None, -(2**63)]}),
        "texts": Edge(pa.list_(pa.string()), {"empty": [""], "null": [None], "quotes": ['"', "\\", ",", "{}", "a\nb"], "word": ["NULL"]}),
        "struct": Edge(
            pa.struct([("a", pa.int64()), ("b", pa.string())]),
            {"of nulls": {"a": None, "b": None}, "quotes": {"a": -1, "b": "\"'\\\n🙂"}, "empty": {"a": 0, "b": ""}},
        ),
        "nothing": Edge(pa.null(), {"null": None}),
    }  # fmt: skip
