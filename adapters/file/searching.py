"""Finds the files that a path means in a store: one file, a folder's, or those that a pattern matches."""

from __future__ import annotations

import glob
import re
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from adapters.file.format import File
from adapters.file.stores.store import Entry, Store
from pipelines.errors import Invalid, Unavailable

SHOWN_NAMES = 8
LOOKED_AT = 1_000


def find(store: Store, path: str) -> list[File]:
    """The files that `path` means, by name. Hidden ones in folders, and writers' marks, are left out.

    Raises:
        Invalid: there is no such file or folder; the message says what is there.
    """
    within = inside(path)
    if glob.has_magic(within) and store.look(within) is None:
        return _matching(store, within)
    if not path.endswith("/") and within and (entry := store.look(within)) is not None:
        return [file_of(store, entry)]
    folder = f"{within}/" if within else ""
    found = sorted(store.list(folder, None), key=lambda entry: entry.path)
    if not found and (store.has_folders or not path.endswith("/")) and not store.is_folder(within):
        raise Invalid(f"{path}: there is no such file in {store.address}; {_there(store, within)}")
    return [file_of(store, entry) for entry in found if _is_data(entry.path.removeprefix(folder))]


def file_of(store: Store, entry: Entry) -> File:
    return File(Path(entry.path), entry.path, entry.size_bytes, entry.changed_ns, entry.version, store)


def watch(file: File, store: Store) -> None:
    """Raises `Unavailable` if the file is not the one that the run was planned with."""
    entry = store.look(file.path.as_posix())
    if entry is None:
        raise Unavailable(f"{file.name}: is gone; it was there when the run was planned")
    if entry == file.entry or (entry.version == file.version != ""):
        return
    is_longer = entry.size_bytes != file.size_bytes
    how = (
        f"has {entry.size_bytes} bytes where it had {file.size_bytes}" if is_longer else "was replaced by another file"
    )
    raise Unavailable(
        f"{file.name}: {how} while the run was reading it; run again once it is complete "
        "(writers that finish a file under another name and rename it are never caught half-way)"
    )


def inside(path: str) -> str:
    """The path as a store calls it: inside of the connection's folder, without `/` at its ends."""
    if "://" in path:
        raise Invalid(f"{path}: is an address; the connection's `url` names the bucket or server, `path` what is in it")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Invalid(f"{path}: leaves the connection's folder; write a path inside of it")
    return "/".join(parts)


def _matching(store: Store, pattern: str) -> list[File]:
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    prefix = "".join(f"{part}/" for part in parts[:first]) + re.split(r"[*?\[]", parts[first], maxsplit=1)[0]
    depth = None if "**" in parts else len(parts) - first - 1
    expression = re.compile(_expression(parts))
    found = sorted(store.list(prefix, depth), key=lambda entry: entry.path)
    return [file_of(store, entry) for entry in found if expression.fullmatch(entry.path)]


def _expression(parts: list[str]) -> str:
    """A pattern as a regular expression: `*` and `?` stay within a name and match no dot in front, `**` is any folders."""
    said = ""
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**":
            said += r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if is_last else "")
            continue
        said += r"(?!\.)" if part[:1] in ("*", "?", "[") else ""
        said += "".join(map(_mark, re.findall(r"\[!?\]?[^\]]*\]|.", part)))
        said += "" if is_last else "/"
    return said


def _mark(piece: str) -> str:
    if piece == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 1:
        inner = piece[1:-1].replace("\\", "\\\\")
        return f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(piece)


def _is_data(inside: str) -> bool:
    """Whether a file of a folder is data: not hidden, not a writer's mark such as `_SUCCESS`."""
    return not any(part.startswith((".", "_")) for part in inside.split("/"))


def _there(store: Store, missing: str) -> str:
    """What is there instead."""
    folder = missing.rpartition("/")[0]
    entries = list(islice(store.list(f"{folder}/" if folder else "", 0), LOOKED_AT))
    names = sorted(entry.path.rpartition("/")[2] for entry in entries)
    close = get_close_matches(missing.rpartition("/")[2], names, 1, 0.5)
    if close:
        return f"did you mean {f'{folder}/{close[0]}' if folder else close[0]!r}?"
    shown = ", ".join(names[:SHOWN_NAMES]) + (f" and {len(names) - SHOWN_NAMES} more" if names[SHOWN_NAMES:] else "")
    return f"in {folder or 'its folder'} there are: {shown}" if names else f"{folder or 'its folder'} has no files"
