"""Writes the generated pages under docs/: one for each node type, and their index."""

from __future__ import annotations

from pathlib import Path

from pipelines.documentation import first_sentence, page
from pipelines.registry import node_types

FOLDER = Path("docs", "nodes")


def pages() -> dict[Path, str]:
    """The text of each generated page, by path from the root of the checkout."""
    types = node_types()
    found = {FOLDER / f"{name}.md": page(name, kind) for name, kind in types.items()}
    lines = [f"- [{name}]({name}.md): {first_sentence(kind)}" for name, kind in types.items()]
    found[FOLDER / "README.md"] = "# Node types\n\nMade by `make docs` from the models.\n\n" + "\n".join(lines) + "\n"
    return found


def main() -> None:
    """Writes them all, and removes pages of types that are gone."""
    wanted = pages()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in set(FOLDER.glob("*.md")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
