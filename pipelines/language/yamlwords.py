"""The YAML parser's complaints in plain words."""

from __future__ import annotations

import re

import yaml

from pipelines.errors import Problem

WORDS: tuple[tuple[str, str, str], ...] = (
    (
        r"mapping values are not allowed",
        "a `: ` that does not belong here",
        "put the value in quotes, or align the key with the others",
    ),
    (r"unexpected ':'", "a `:` without a space after it", "write `: `, or put the value in quotes"),
    (r"cannot start any token", "a value may not begin with this character", "put the value in quotes"),
    (r"tab character|\\t", "a tab is used to indent", "indent with spaces"),
    (r"could not find expected ':'", "a key without `:`", "write `key: value`; is a quote or an indentation missing?"),
    (r"expected ',' or '\}'", "a `{` is not closed, or a comma is missing", "end it with `}`"),
    (r"expected ',' or '\]'", "a `[` is not closed, or a comma is missing", "end it with `]`"),
    (r"expected <document start>", "something stands after the end of the document", "take it out or indent it"),
    (
        r"expected node content",
        "a value is missing, or begins with a bracket that was not opened",
        "put the value in quotes",
    ),
    (r"expected key", "the indentation does not fit the lines above", "align it with the other keys"),
    (r"expected '-' indicator", "the indentation does not fit the list above", "begin it with `- ` or align it"),
    (r"block sequence entries are not allowed", "a list cannot begin here", "put `- ` on a line of its own"),
    (
        r"block mapping.*not allowed|mapping keys are not allowed",
        "a key cannot begin here",
        "put it on a line of its own",
    ),
    (r"unexpected end of stream", "a quote is not closed", "end the value with the quote it began with"),
    (
        r"unknown escape character",
        "an escape that double quotes do not know",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    (r"hexadecimal|escape", "a broken escape in double quotes", "write `\\\\` for a backslash, or use single quotes"),
    (
        r"unexpected document indicator",
        "a quoted value runs into `---` or `...`",
        "end the value with the quote it began with",
    ),
    (r"undefined tag handle", "a tag is used that is not allowed", "put the value in quotes"),
    (r"anchor|alias", "a broken anchor or alias", "name it with letters and digits, or put the value in quotes"),
    (r"indentation indicator|block scalar", "a broken `|` or `>`", "begin the text on the line below, indented"),
    (r"directive|YAML version|version", "a broken % directive", "take it out"),
    (r"tag", "a tag is not allowed", "put the value in quotes"),
    (r"flow|depth|nesting", "values are nested too deep", "nest less"),
)
TAB = ("a tab is used to indent", "indent with spaces")
UNCLOSED = ("a `[` or `{` is not closed", "end it with `]` or `}`")
AFTER_QUOTE = ("something stands after a quoted value", "put all of the value inside the quotes")


def syntax_problem(fault: yaml.YAMLError, path: str, text: str, shift: int) -> Problem:
    """What the parser did not understand, where, and what would be right."""
    mark = getattr(fault, "problem_mark", None)
    opened = getattr(fault, "context_mark", None)
    lines = text.splitlines()
    if opened is not None and (mark is None or not "".join(lines[mark.line :]).strip()):
        mark, opened = opened, None
    said = f"{getattr(fault, 'problem', None) or fault} {getattr(fault, 'context', None) or ''}".strip()
    what, fix = _words(said)
    if mark is None:
        return Problem(path, 0, 0, f"not YAML: {what}", fix)
    if "expected node content" in said and not "".join(lines[mark.line :]).strip() and "".join(lines).strip():
        last = max(number for number, line in enumerate(lines) if line.strip())
        return Problem(path, last + 1, 1, f"not YAML: {UNCLOSED[0]}: {lines[last].strip()[:60]}", UNCLOSED[1])
    shown = lines[mark.line] if mark.line < len(lines) else ""
    if shown[mark.column : mark.column + 1] == "\t" and not shown[: mark.column].strip():
        what, fix = TAB
    elif "expected key" in said and re.search(r"['\"][^'\"]*$", shown[: mark.column]):
        what, fix = AFTER_QUOTE
    if opened is not None and opened.line != mark.line:
        what += f" (begun in line {opened.line + 1})"
    column = mark.column + 1 + (shift if mark.line == 0 else 0)
    return Problem(path, mark.line + 1, column, f"not YAML: {what}" + (f": {shown.strip()[:60]}" if shown else ""), fix)


def _words(said: str) -> tuple[str, str]:
    for pattern, what, fix in WORDS:
        if re.search(pattern, said):
            return what, fix
    return said, ""
