"""YAML texts in every style a person might type, generated together with the values they mean."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from pipelines.language.yamlrender import inline, key_text, literal

WORDS = [
    "a",
    "b",
    "from",
    "NO",
    "yes",
    "orders",
    "2026-01-01",
    "x y",
    "it's",
    'say "so"',
    "# no",
    "a: b",
    "",
    "é𝄞",
    "~",
    "12",
    "- x",
]
TEXTS = st.one_of(
    st.sampled_from(
        [*WORDS, "two\nlines", "three\nlines\nhere\n", "null", "true", "{}", "[", "*a", "&a", "%", "@", "`", "?"]
    ),
    st.text(max_size=8),
)
SCALARS = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
)
KEYS = st.sampled_from([word for word in WORDS if word]) | st.text(min_size=1, max_size=6)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(KEYS, TREES, min_size=1, max_size=4)


class Typist:
    """Writes a value down, with styles, comments and blank lines as `draw` decides."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.comments = 0
        self.ends_in_block = False

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def comment(self, before: str = "  ") -> str:
        if not self.one_of(False, False, True):
            return ""
        self.comments += 1
        return f"{before}# note {self.comments}"

    def scalar(self, value: Any, flow: bool) -> str:
        if isinstance(value, str):
            return inline(value, self.one_of("", "'", '"'), flow=flow)
        return self.one_of("null", "~", "Null") if value is None else inline(value)

    def key(self, name: str) -> str:
        return self.one_of(key_text(name), key_text(name), inline(name, '"'))

    def flow(self, value: Any) -> str:
        space, comma = self.one_of("", " "), self.one_of(", ", " , ", ",")
        if isinstance(value, dict) and value:
            inside = (comma if comma != "," else ", ").join(f"{self.key(k)}: {self.flow(v)}" for k, v in value.items())
            return "{" + space + inside + self.one_of("", ",") + space + "}"
        if isinstance(value, list) and value:
            return "[" + space + comma.join(self.flow(v) for v in value) + self.one_of("", ",") + space + "]"
        return self.scalar(value, flow=True) if not isinstance(value, (dict, list)) else inline(value)

    def inserted(self, indent: int) -> list[str]:
        above = [" " * self.one_of(0, indent, indent + 3) + "# above"] if self.one_of(False, False, True) else []
        return [*([""] if self.one_of(False, False, False, True) else []), *above]

    def block(self, value: Any, indent: int) -> list[str]:
        pad, lines = " " * indent, []
        if isinstance(value, dict):
            for key, item in value.items():
                lines += self.inserted(indent)
                head = f"{pad}{self.key(key)}:"
                lines += self.entry(head, item, indent, self.one_of(" ", " ", "   "))
            return lines
        for item in value:
            lines += self.inserted(indent)
            if isinstance(item, dict) and item and self.one_of(True, False):
                first, *rest = self.block(item, indent + 2)
                while not first.strip() or first.lstrip().startswith("#"):
                    first, *rest = rest
                lines += [f"{pad}- {first.lstrip()}", *rest]
            else:
                lines += self.entry(f"{pad}-", item, indent, " ")
        return lines

    def entry(self, head: str, item: Any, indent: int, gap: str) -> list[str]:
        if isinstance(item, (dict, list)) and item and self.one_of(True, True, False):
            loose = isinstance(item, list) and head.endswith(":") and self.one_of(True, False)
            return [head + self.comment(), *self.block(item, indent if loose else indent + self.one_of(1, 2, 4))]
        self.ends_in_block = False
        text = literal(item) if self.one_of(True, False) else None
        if text is not None:
            self.ends_in_block = True
            inner = " " * (indent + self.one_of(1, 2, 3))
            return [f"{head}{gap}{text[0]}" + self.comment(), *(inner + line if line else line for line in text[1:])]
        if item is None and self.one_of(True, False):
            return [head + self.comment()]
        return [
            f"{head}{gap}{self.flow(item) if isinstance(item, (dict, list)) else self.scalar(item, False)}{self.comment()}"
        ]


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A text and the value it means."""
    value = draw(DOCUMENTS)
    typist = Typist(draw)
    newline = typist.one_of("\n", "\n", "\r\n")
    lines = [*(["# top"] if typist.one_of(True, False) else []), *typist.block(value, 0)]
    end = newline if lines[-1] == "" or typist.ends_in_block or typist.one_of(True, True, False) else ""
    return newline.join(lines) + end, json.loads(json.dumps(value))


@st.composite
def places(draw: st.DrawFn, value: Any) -> tuple[str | int, ...]:
    """The place of some value inside another, never the whole."""
    at: list[str | int] = []
    while isinstance(value, (dict, list)) and value and (not at or draw(st.booleans())):
        step = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        at.append(step)
        value = value[step]
    return tuple(at)
