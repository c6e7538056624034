"""Finds the files that a path means: one file, a folder's, or those that a pattern matches."""

from __future__ import annotations

import glob
import stat
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from adapters.file import searching
from adapters.file.connection import Place
from adapters.file.format import File
from adapters.file.source import COMPRESSIONS
from pipelines.errors import Invalid, Unavailable

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".avro": "avro",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xml": "xml",
}
"""Formats by suffix, that of a compression left out."""
SHOWN_NAMES = 8


def suffix_of(path: Path) -> str:
    """The suffix that tells the format: `.csv` of `orders.csv.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_pattern(path: str) -> bool:
    return glob.has_magic(path)


def found_in(place: Place, path: str) -> list[File]:
    """The files that `path` means in a place, by name."""
    return find(place.folder, path) if place.store is None else searching.find(place.store, path)


def find(project: Path, path: str) -> list[File]:
    """The files that `path` means, by name. Hidden and empty-named ones in folders are left out.

    Raises:
        Invalid: there is no such file or folder; the message says what is there.
    """
    whole = project / Path(path).expanduser()
    if is_pattern(path) and not whole.exists():
        base = _existing_base(whole)
        if not base.is_dir():
            raise Invalid(f"{path}: there is no folder {_name(project, base)}; {_there(project, base)}")
        found = [Path(name) for name in glob.iglob(str(whole), recursive=True)]  # noqa: PTH207 (`**`, and no hidden files)
        return _described(project, found)
    if whole.is_dir():
        return _described(project, [each for each in whole.rglob("*") if _is_data(each.relative_to(whole))])
    if not whole.exists():
        raise Invalid(f"{path}: there is no such file; {_there(project, whole)}")
    return _described(project, [whole])


def _existing_base(pattern: Path) -> Path:
    """The part of a pattern before its first wildcard."""
    parts = []
    for part in pattern.parts:
        if is_pattern(part):
            break
        parts.append(part)
    return Path(*parts)


def _is_data(inside: Path) -> bool:
    """Whether a file of a folder is data: not hidden, not a writer's mark such as `_SUCCESS`."""
    return not any(part.startswith((".", "_")) for part in inside.parts)


def _described(project: Path, paths: Sequence[Path]) -> list[File]:
    found = []
    for path in sorted(paths):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # gone since the folder was listed
        except OSError as fault:
            raise Unavailable(f"{_name(project, path)}: cannot be looked at: {fault.strerror}") from fault
        if stat.S_ISREG(about.st_mode):
            found.append(File(path, _name(project, path), about.st_size, about.st_mtime_ns, str(about.st_ino)))
        elif len(paths) == 1 and not stat.S_ISDIR(about.st_mode):
            raise Invalid(
                f"{_name(project, path)}: is no regular file; files can be read again, pipes and devices cannot"
            )
    return found


def _name(project: Path, path: Path) -> str:
    return path.relative_to(project).as_posix() if path.is_relative_to(project) else path.as_posix()


def _there(project: Path, missing: Path) -> str:
    """What is there instead."""
    folder = missing.parent
    while not folder.is_dir():
        missing, folder = folder, folder.parent
    names = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    close = get_close_matches(missing.name, names, 1, 0.5)
    if close:
        return f"did you mean {_name(project, folder / close[0])!r}?"
    shown = ", ".join(names[:SHOWN_NAMES]) + (
        f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    )
    where = "the project folder" if folder == project else _name(project, folder)
    return f"in {where} there are: {shown}" if names else f"{where} is empty"


def watch(file: File) -> None:
    """Raises `Unavailable` if the file is not the one that the run was planned with."""
    if file.store is not None:
        searching.watch(file, file.store)
        return
    try:
        about = file.path.stat()
    except FileNotFoundError as fault:
        raise Unavailable(f"{file.name}: is gone; it was there when the run was planned") from fault
    if (about.st_size, about.st_mtime_ns, str(about.st_ino)) == (file.size_bytes, file.changed_ns, file.version):
        return
    how = (
        "was replaced by another file"
        if str(about.st_ino) != file.version
        else (
            f"has {about.st_size} bytes where it had {file.size_bytes}"
            if about.st_size != file.size_bytes
            else "was written to"
        )
    )
    raise Unavailable(
        f"{file.name}: {how} while the run was reading it; run again once it is complete "
        "(writers that finish a file under another name and rename it are never caught half-way)"
    )
