"""What every target needs: the command that is to run, its words for a shell, and YAML."""

import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from progan import pretrained
from progan.commands import SubmitConfig
from progan.data.sources.named import FOLDER, SETS
from progan.errors import ConfigError, ProganError

PORT = "29500"
"""Port at which the hosts of a job meet, torchrun's own."""
PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
"""Environment variable with the seconds after which torchrun kills what it told to end, 30 without it."""
DATA = "/tmp/progan/data"
"""Where a job keeps the sets that it downloads."""
_DRAWN = "avatars"
"""What `--data` takes before a colon and is drawn by the job itself."""
_EXTRAS = {
    ".parquet": "parquet",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".mdb": "lmdb",
    ".heic": "heic",
    ".heif": "heic",
    ".dcm": "medical",
    ".dicom": "medical",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Suffix of a file of images -> extra of progan that reads it."""


class Raw(str):
    """Word of a command that the shell of the job is to expand."""


@dataclass(frozen=True)
class Work:
    """Command of progan that is to run elsewhere."""

    command: str
    """`train` or `compare`."""
    arguments: tuple[str, ...]
    """Its arguments, without `out` and `inputs`."""
    out: str
    inputs: Mapping[str, str]
    """Flag -> path or address that it reads: `--data`, `--held-out`, `--init`."""

    def words(self, out: str, inputs: Mapping[str, str], *more: str) -> list[str]:
        """`train …` or `compare …` with the places that it has in the job."""
        places = [word for name, place in inputs.items() for word in option(name, place)]
        return [self.command, *self.arguments, *places, *option("--out", out), *more]

    @property
    def copy_to(self) -> str | None:
        """Where the run is copied; None if it is not."""
        words = self.arguments
        given = [word.partition("=")[2] for word in words if word.startswith("--copy-to=")]
        given += [value for name, value in pairwise(words) if name == "--copy-to"]
        return given[-1] if given else None

    def extras(self, inputs: Mapping[str, str]) -> tuple[str, ...]:
        """Extras of progan that the command needs, where it finds its inputs at these places."""
        places = [place for place in inputs.values() if not isinstance(place, Raw)]
        found = {"cloud"} if any("://" in place for place in (*places, self.copy_to or "")) else set[str]()
        found |= {extra for flag, extra in (("--download", "hub"), ("--wandb", "wandb")) if self.has(flag)}
        files = [file for place in self.inputs.values() for file in (Path(place), *Path(place).rglob("*"))]
        return tuple(sorted(found | {_EXTRAS[kind] for file in files if (kind := file.suffix.lower()) in _EXTRAS}))

    def has(self, flag: str) -> bool:
        """True if the command is given this flag."""
        return any(word.split("=")[0] == flag for word in self.arguments)

    def variables(self) -> dict[str, str]:
        """Environment variables that the command needs."""
        return {FOLDER: DATA} if self.has("--download") else {}

    def is_here(self, flag: str) -> bool:
        """True for an input of this machine, which has to go along; False for what the job finds by itself.

        Raises ConfigError for what is at neither.
        """
        place = self.inputs[flag]
        word = re.split("[:=]", place)[0]
        if os.path.exists(place):
            return True
        if "://" in place or place.startswith(("azureml:", "${{")) or word == _DRAWN:
            return False
        if flag == "--init" and place in pretrained.names():
            return False
        if word not in (*SETS, "lsun", "hf", "stacked"):
            raise ConfigError(
                f"{place} does not exist here. Name images of this machine, an address, or a published set"
            )
        has_hub = bool(SETS[word].hub) and place == word if word in SETS else word == "hf"
        can_fetch = has_hub and flag == "--data" and self.command == "train"
        if can_fetch and self.has("--download"):
            return False
        more = ", or add --download" if can_fetch else ""
        raise ConfigError(
            f"the job does not have {place}: `progan prepare {shlex.quote(place)} DIR` here and name DIR{more}"
        )

    def name(self, config: SubmitConfig) -> str:
        """Name of the job as every target takes it: small letters, digits and hyphens, at most 50."""
        name = config.name or PurePath(self.out).name or "progan"
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        if name.isascii() and 0 < len(plain) <= 50:
            return plain
        # What is lost of a name must not make two runs share a folder.
        return f"{plain[:41].strip('-') or 'progan'}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def option(name: str, value: str) -> list[str]:
    """Words that give an option a value. One that begins with a hyphen would be taken for another option."""
    return (
        [Raw(f"{name}={value}") if isinstance(value, Raw) else f"{name}={value}"] if value[:1] == "-" else [name, value]
    )


def python(config: SubmitConfig, *meeting: str) -> list[str]:
    """`-m progan`, or `-m torch.distributed.run … -m progan` for several processes.

    `meeting` are torchrun's arguments that say where several hosts meet.
    """
    if config.processes == 1:
        return ["-m", "progan"]
    how = ["--nnodes", str(config.hosts), *meeting] if config.hosts > 1 else ["--standalone"]
    return ["-m", "torch.distributed.run", *how, "--nproc-per-node", str(max(config.gpus, 1)), "-m", "progan"]


def shell(words: Iterable[str]) -> str:
    """A command line for a POSIX shell."""
    return " ".join(word if isinstance(word, Raw) else shlex.quote(word) for word in words)


_NOT_TEXT = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
"""Plain words that YAML takes for something else."""
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def scalar(value: Any) -> str:
    """A scalar of YAML, or a list of them.

    JSON's are YAML, but for characters that YAML takes for line breaks or refuses unless escaped.
    """
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def yaml(value: Any, indent: str = "") -> str:
    """YAML of mappings, lists, text, whole numbers and truth values: blocks, with JSON's scalars and lists of them.

    So `--dry-run` needs no library, and every reader of YAML finds the same values.
    """
    if isinstance(value, Mapping) and value:
        return "".join(f"{indent}{_key(key)}:{_below(each, indent)}" for key, each in value.items())
    if isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        return "".join(f"{indent}- {yaml(each, indent + '  ').lstrip(' ')}" for each in value)
    return f"{indent}{scalar(value)}\n"


def _key(key: str) -> str:
    plain = re.fullmatch(r"[A-Za-z$/][A-Za-z0-9_./-]*", key) and key.lower() not in _NOT_TEXT
    return key if plain else scalar(key)


def _below(value: Any, indent: str) -> str:
    text = yaml(value, indent + "  ")
    block = isinstance(value, Mapping | list) and not text.lstrip().startswith(("[", "{"))
    return f"\n{text}" if block else f" {text.lstrip(' ')}"


def hand_over(command: Sequence[str], advice: str, text: str | None = None) -> str:
    """Run a program, with the text as its input, and return what it prints. ProganError if it cannot or fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    except OSError:
        raise ProganError(f"there is no `{command[0]}` here: {advice}, or print the file with --dry-run") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise ProganError(f"{command[0]} refused the job: {lines[-1]}")
    return done.stdout.strip()
