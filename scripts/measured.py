"""Writes what was measured into the pages: python scripts/measured.py [--check]

Numbers are changed in docs/measured, never in a page. There a comment behind a number, `9.6<!-- NAME -->`, says which
entry of text.json it is, and a comment `<!-- table NAME -->` above a table which of tables.json. Entries name the file
with what was measured, where it was kept.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs/measured"
TABLES: dict[str, dict[str, Any]] = json.loads((MEASURED / "tables.json").read_text(encoding="utf-8"))
TEXT: dict[str, dict[str, str]] = json.loads((MEASURED / "text.json").read_text(encoding="utf-8"))
TABLE = re.compile(r"(?<=<!-- table )([\w-]+)( -->\n\n)((?:\|.*\n)+)")
NUMBER = re.compile(r"[−-]?\d(?:[\d,.e−-]*\d)?(?=<!-- ([\w.-]+) -->)")


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
    """A page with the numbers and tables of the JSON. Raises KeyError for a name that is not there."""
    text = NUMBER.sub(lambda found: TEXT[found[1]]["shown"], text)
    return TABLE.sub(lambda found: found[1] + found[2] + rendered(found[1]), text)


def main() -> None:
    wrong = [path for path in pages() if filled(text := path.read_text(encoding="utf-8")) != text]
    for path in wrong:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    if wrong and "--check" in sys.argv:
        raise SystemExit("these pages have other numbers than docs/measured: run python scripts/measured.py")


if __name__ == "__main__":
    main()
