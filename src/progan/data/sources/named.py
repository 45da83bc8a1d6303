"""Published data sets by name: `mnist`, `celeba`, `lsun:bedroom` … where the user has them, as they were downloaded.

A name is looked for in the folder $PROGAN_DATA under the names that downloads have, then where Debian's package puts
it; `celeba=PATH` says where it is. Nothing is downloaded but by `fetch` (`--download`), through Hugging Face's
`datasets`.
"""

import os
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from progan.config import PrepareConfig
from progan.data.dataset import Manifest
from progan.data.sources.base import Unreadable, import_extra
from progan.errors import DatasetError
from progan.files import locked, printable
from progan.progress import Log, silent

FOLDER = "PROGAN_DATA"
"""Environment variable with the folder of the user's data sets."""
_ATTRIBUTES = "list_attr_celeba.txt"
_LSUN, _HUB = re.compile(r"lsun:(\w+)"), re.compile(r"hf:(\w[\w.-]*/\w[\w.-]*)(?::(\w+))?")


@dataclass(frozen=True)
class NamedSet:
    """A published data set."""

    about: str
    """What to download and from which page, for a user who does not have it."""
    places: tuple[str, ...]
    """Names of the download, below $PROGAN_DATA; small letters, hyphens for underscores."""
    inside: tuple[str, ...] = ()
    """What of the folder that was found holds the images, where it is there."""
    system: str = ""
    """Folder of Debian's package."""
    hub: str = ""
    """OWNER/NAME at Hugging Face."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Options of PrepareConfig that are not at their usual defaults."""


_IDX = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the two t10k files"
SETS = {
    "mnist": NamedSet(
        f"{_IDX} (The MNIST Database of Handwritten Digits, by LeCun, Cortes and Burges)",
        ("mnist",),
        hub="ylecun/mnist",
    ),
    "fashion-mnist": NamedSet(
        f"{_IDX} (Fashion-MNIST, by Zalando Research; Debian's package dataset-fashion-mnist installs them)",
        ("fashion-mnist", "fashionmnist"),
        system="/usr/share/datasets/fashion-mnist",
        hub="zalando-datasets/fashion_mnist",
    ),
    "cifar10": NamedSet(
        "cifar-10-binary.tar.gz or cifar-10-python.tar.gz (The CIFAR-10 dataset, by Krizhevsky)",
        (
            "cifar10",
            "cifar-10",
            "cifar-10-batches-bin",
            "cifar-10-batches-py",
            "cifar-10-binary.tar.gz",
            "cifar-10-python.tar.gz",
        ),
        hub="uoft-cs/cifar10",
    ),
    "celeba": NamedSet(
        f"img_align_celeba.zip, {_ATTRIBUTES} and list_eval_partition.txt (Large-scale CelebFaces Attributes Dataset, "
        "MMLAB, The Chinese University of Hong Kong)",
        ("celeba", "img-align-celeba", "img-align-celeba.zip", "celeba-dataset", "celeba-dataset.zip", "celeba.zip"),
        tuple(
            f"{folder}{images}{suffix}"
            for images in ("img-align-celeba", "img-celeba")
            for folder in ("", "img/")
            for suffix in ("", ".zip")
        ),
        settings={"crop": "celeba"},
    ),
    "celeba-hq": NamedSet(
        "CelebAMask-HQ.zip (CelebAMask-HQ, by Lee, Liu, Wu and Luo), or CelebA-HQ's 30,000 images as a folder, zip, "
        "npz or parquet files",
        tuple(
            name + suffix
            for name in ("celeba-hq", "celebahq", "celebamask-hq", "celeba-hq-img", "celeba-hq-1024", "celeba-hq-256")
            for suffix in ("", ".zip", ".npz", ".parquet")
        ),
        ("celeba-hq-img", "celebamask-hq/celeba-hq-img", "celebamask-hq.zip"),
    ),
    "ffhq": NamedSet(
        "images1024x1024 or thumbnails128x128 (Flickr-Faces-HQ Dataset, by NVIDIA Research Projects)",
        ("ffhq", "ffhq-dataset", "images1024x1024", "thumbnails128x128", "ffhq.zip", "images1024x1024.zip"),
        ("images1024x1024", "thumbnails128x128"),
        settings={"labels": "none"},  # its folders are thousands, not classes
    ),
}
"""Name -> what it is. `lsun:CLASS` and `hf:OWNER/NAME` are others."""
NAMES = (*SETS, "lsun:CLASS", "hf:OWNER/NAME[:SPLIT]")


@dataclass(frozen=True)
class Located:
    """Where a named set is."""

    name: str
    """As the dataset is called."""
    path: str
    """A source by itself."""
    split: str | None = None
    """Part of a folder of parquet files that is taken."""


def locate(source: str) -> Located | None:
    """Where the set is that `source` names, or None if it names none, or a path that exists.

    Raises DatasetError, which says what to download, if it is not there.
    """
    word, has_path, path = source.partition("=")
    known = _known(word)
    if known is None or os.path.exists(source):
        return None
    split = matched[2] if (matched := _HUB.fullmatch(word)) else None
    name = printable(word.removeprefix("hf:").replace("/", "-").replace(":", "-"))
    if has_path:
        if not os.path.exists(path):
            raise DatasetError(f"{source}: {path} does not exist. For {word}, download {known.about}")
        found: Path | None = Path(path)
    else:
        found = _in_data_folder(known) or (Path(known.system) if known.system and os.path.isdir(known.system) else None)
    if found is None:
        raise DatasetError(f"{word} is not here. {_what_to_do(word, known)}")
    if found.is_dir():
        found = next(filter(None, (_below(found, place) for place in known.inside)), found)
    if Manifest.is_in(found):
        raise DatasetError(f"{source}: {found} is a prepared dataset. Name it by itself: {found}")
    return Located(name, str(found), split)


def shadow_note(source: str, words: Container[str]) -> tuple[str, ...]:
    """A note where a path has the name of a set, and wins, or that of one of the `words` of sources, which win."""
    if not os.path.exists(source):
        return ()
    if f"{source}:" in words:
        return (f"{source} is not the file or folder of that name here (that is {os.path.join('.', source)})",)
    if _known(source) is None:
        return ()
    return (f"{source} is the file or folder of that name here, not the published set ({source}=PATH names that)",)


def preparation(source: str | os.PathLike[str], **given: Any) -> PrepareConfig:
    """Settings of a preparation: those that are given, else those that suit a named set, else the defaults.

    CelebA is cropped as the paper's authors did; FFHQ's folders are no classes.
    """
    source = os.fspath(source)
    known = None if os.path.exists(source) else _known(source.partition("=")[0])
    settings = dict(known.settings) if known else {}
    if given.get("label_column") is not None:
        settings.pop("labels", None)
    return PrepareConfig(**{**settings, **given})


def fetch(source: str, log: Log = silent) -> None:
    """Download a set from Hugging Face into $PROGAN_DATA, as parquet files, unless it is here. Raises DatasetError."""
    word = source.partition("=")[0]
    known = _known(word)
    if known is None or os.path.exists(source):
        raise DatasetError(f"--download: {source} is not the name of a published set. There are {', '.join(NAMES)}")
    try:
        here = locate(source)
        if here and (here.split is None or any(Path(here.path).rglob(f"{here.split}-*.parquet"))):
            return
    except DatasetError:
        if word != source or not known.hub:
            raise
    if not os.environ.get(FOLDER):
        raise DatasetError(f"--download: set {FOLDER} to the folder where data sets are to be kept")
    split = matched[2] if (matched := _HUB.fullmatch(word)) else None
    folder = Path(os.environ[FOLDER], known.places[0])
    work = folder.with_name(f".{folder.name}.work")
    try:
        datasets = import_extra("datasets", "hub", "--download needs it")
        log(f"downloading {known.hub} into {folder}")
        found = datasets.load_dataset(known.hub, split=split)
        with locked(work):
            for part, rows in {split: found}.items() if split else found.items():
                rows.to_parquet(str(work / f"{part}-00000-of-00001.parquet"))
            folder.mkdir(parents=True, exist_ok=True)
            for path in work.glob("*.parquet"):
                os.replace(path, folder / path.name)
    except Unreadable as error:
        raise DatasetError(f"{source} cannot be downloaded: {error}") from None
    except Exception as error:  # of the many libraries below it
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
        raise DatasetError(
            f"{source} cannot be downloaded ({reason}). {_what_to_do(word, known, again=True)}"
        ) from None


def _known(word: str) -> NamedSet | None:
    """The set that a word names; None for any other word. Raises DatasetError for half a name."""
    if word in SETS:
        return SETS[word]
    if matched := _LSUN.fullmatch(word):
        scene = matched[1].lower().replace("_", "-")
        files = f"{scene}-train-lmdb"
        about = f"{matched[1]}_train_lmdb.zip and unpack it (LSUN, by Yu and others)"
        return NamedSet(about, (f"lsun/{files}", files, f"lsun/{scene}", f"lsun-{scene}"), (files,))
    if matched := _HUB.fullmatch(word):
        about = f"the parquet files of {matched[1]} (Hugging Face)"
        return NamedSet(about, (matched[1],), hub=matched[1])
    if word in ("lsun", "hf") or word.startswith(("lsun:", "hf:")):
        form = "lsun:CLASS, such as lsun:bedroom" if word.startswith("lsun") else "hf:OWNER/NAME or hf:OWNER/NAME:SPLIT"
        if not os.path.exists(word):
            raise DatasetError(f"{word} is not understood. Write {form}")
    return None


def _what_to_do(word: str, known: NamedSet, again: bool = False) -> str:
    """What to download, where to put it, and how else to name it."""
    folder, place = os.environ.get(FOLDER), known.places[0]
    where = str(Path(folder, place)) if folder else f"FOLDER/{place} and set {FOLDER}=FOLDER"
    more = ". Or let --download fetch it through Hugging Face's `datasets`" if known.hub and not again else ""
    return f"Download {known.about} into {where}, or name it where it is: {word}=PATH{more}"


def _in_data_folder(known: NamedSet) -> Path | None:
    """The set below $PROGAN_DATA under the first of its names."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    if not os.path.isdir(folder):
        raise DatasetError(f"{FOLDER} is {folder}, which is no folder. Set it to the folder of your data sets")
    return next(filter(None, (_below(Path(folder), place) for place in known.places)), None)


def _below(folder: Path, place: str) -> Path | None:
    """Path below a folder, whose names may have capitals, and underscores for hyphens; None where there is none."""
    for part in place.split("/"):
        wanted = part.lower().replace("_", "-")
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        found = next((name for name in names if name.lower().replace("_", "-") == wanted), None)
        if found is None:
            return None
        folder = folder / found
    return folder
