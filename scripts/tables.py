"""Writes the tables of measurements into the pages: python scripts/tables.py [--check]

A comment `<!-- table NAME -->` above a table says which entry of docs/measured/tables.json it is. Numbers are changed
there, never in a page. `raw` names the file with what was measured, where it was kept.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLES: dict[str, dict[str, Any]] = json.loads((ROOT / "docs/measured/tables.json").read_text(encoding="utf-8"))
MARKED = re.compile(r"(?<=<!-- table )([\w-]+)( -->\n\n)((?:\|.*\n)+)")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def rendered(name: str) -> str:
    """The lines of a table."""
    table = TABLES[name]
    rows = [table["columns"], table["align"], *table["rows"]]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines[1] = "|" + "|".join(table["align"]) + "|"
    return "".join(re.sub(r"  +", " ", line) + "\n" for line in lines)


def filled(text: str) -> str:
    """A page with the tables of the JSON. Raises KeyError for a name that is not there."""
    return MARKED.sub(lambda found: found[1] + found[2] + rendered(found[1]), text)


def main() -> None:
    wrong = [path for path in pages() if filled(text := path.read_text(encoding="utf-8")) != text]
    for path in wrong:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    if wrong and "--check" in sys.argv:
        raise SystemExit("these pages have other numbers than docs/measured/tables.json: run python scripts/tables.py")


if __name__ == "__main__":
    main()
