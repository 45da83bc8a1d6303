"""Trained generators in the package: each a run's folder (config.json, stats.jsonl, snapshots), known by its name.

`scripts/pretrained` makes such a folder of a finished run; docs/avatars64.md is the card of the one there is.
"""

import os
from pathlib import Path

from progan.progress import Log, silent

DEFAULT = "avatars64"
"""Name of the generator that commands use where none is given."""
FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the generators in the package."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def locate(source: str | os.PathLike[str], log: Log = silent) -> Path:
    """Path of what `source` names: a generator of the package, else the path that it is.

    An existing file or folder of that name wins, which `log` gets a line about.
    """
    path = Path(source)
    if str(source) not in names():
        return path
    if path.exists():
        log(f"note: {source} is the one here, not the generator of that name in the package")
        return path
    return FOLDER / path


def is_inside(path: Path) -> bool:
    """True for what lies in the package, where nothing is to be written."""
    return FOLDER in path.absolute().parents
