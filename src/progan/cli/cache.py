"""`progan cache list` and `progan cache clear`: datasets prepared for --data, classifiers of metrics, runtimes."""

import argparse
from typing import TYPE_CHECKING

from progan.cli.base import answer

if TYPE_CHECKING:
    from progan.data.cache import CacheEntry


def show(arguments: argparse.Namespace) -> int:
    """List what the cache holds.

    These are datasets that were prepared for --data, classifiers that metrics have trained, and onnxruntime-web, which
    exported pages run on. The cache is in $PROGAN_CACHE if that is set, else in the user's cache folder.

        progan cache list
    """
    from progan.data.cache import list_cache

    return _answer(arguments, list_cache(), "in")


def clear(arguments: argparse.Namespace) -> int:
    """Delete everything that `progan cache list` lists.

    It is made again when it is needed.

        progan cache clear
    """
    from progan.data.cache import clear_cache

    return _answer(arguments, clear_cache(), "deleted from")


def _answer(arguments: argparse.Namespace, entries: "list[CacheEntry]", where: str) -> int:
    from progan.data.cache import cache_folder

    folder, size = cache_folder().parent, sum(entry.bytes for entry in entries)
    rows = [(entry.bytes, f" {entry.path}{'' if entry.complete else '  (unfinished)'}") for entry in entries]
    rows.append((size, f"{where} {folder}"))
    shown = [{**vars(entry), "path": str(entry.path)} for entry in entries]
    facts = {"folder": str(folder), "entries": shown, "bytes": size}
    return answer(arguments, facts, "\n".join(f"{bytes_ / 2**20:9.1f} MB {text}" for bytes_, text in rows))
