"""`progan cache`: datasets that were prepared on the way, for `--data`."""

import argparse
import json
from typing import Any


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands."""
    group = commands.add_parser("cache", help="list or delete datasets that were prepared for --data")
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, about in (("list", "what the cache holds"), ("clear", "delete all of it")):
        parser = kinds.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.set_defaults(run=run, clear=name == "clear")


def run(arguments: argparse.Namespace) -> int:
    """Handle the commands."""
    from progan.data.cache import cache_folder, clear_cache, list_cache

    entries = clear_cache() if arguments.clear else list_cache()
    size = sum(entry.bytes for entry in entries)
    if arguments.json:
        shown = [{**vars(entry), "path": str(entry.path)} for entry in entries]
        print(json.dumps({"folder": str(cache_folder().parent), "entries": shown, "bytes": size}))
        return 0
    for entry in entries:
        print(f"{entry.bytes / 2**20:9.1f} MB  {entry.path}{'' if entry.complete else '  (unfinished)'}")
    done = "deleted from" if arguments.clear else "in"
    print(f"{size / 2**20:9.1f} MB {done} {cache_folder().parent}")
    return 0
