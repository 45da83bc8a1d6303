"""Networks of a run, a snapshot, or another implementation's file, ready for use."""

import os
from pathlib import Path
from typing import Literal, overload

import torch

import progan
from progan import importers, models, pretrained, sampling
from progan.config import coerce
from progan.data.dataset import LabelKind
from progan.errors import SnapshotError
from progan.importers.torch_file import is_torch_file
from progan.progress import log_line
from progan.run import initial
from progan.run_folder import RunFolder
from progan.snapshot import Critic, Snapshot, SnapshotInfo, of_generator
from progan.training.state import StateFolder


@overload
def load(
    path: str | os.PathLike[str], resolution: int | None = None, network: Literal["Gs", "G"] = "Gs"
) -> Snapshot: ...
@overload
def load(path: str | os.PathLike[str], resolution: int | None = None, *, network: Literal["D"]) -> Critic: ...
def load(
    path: str | os.PathLike[str], resolution: int | None = None, network: Literal["Gs", "G", "D"] = "Gs"
) -> Snapshot | Critic:
    """A network of a run folder, a snapshot (.safetensors), a file that `progan import` reads, or a generator of the
    package by its name (`avatars64`).

    `network`: `Gs`, the averaged generator (of a run folder its newest snapshot, or that of a resolution); `G`, the one
    that is trained; `D`, the discriminator (of a run folder as in its newest training state). Of a checkpoint of
    pro_gan_pytorch, `resolution` is that at which it was trained last. Raises SnapshotError for what is not there.
    """
    path, resolution = pretrained.locate(coerce("path", path, str)), coerce("resolution", resolution, int | None)
    if network not in ("Gs", "G", "D"):
        raise SnapshotError(f"there is no network {network!r}; there are Gs (the averaged generator), G and D")
    if path.is_dir() and network != "Gs" and not pretrained.is_inside(path):  # where no training state is
        return _of_state(RunFolder(path), resolution, network)
    if path.is_file() and _is_foreign(path):
        snapshot = importers.import_network(path, None, resolution, log_line)
    else:
        snapshot = sampling.load(path, resolution)
    if network == "Gs":
        return snapshot
    found = snapshot.D if network == "D" else snapshot.raw
    if found is None:
        what = "discriminator" if network == "D" else "trained generator"
        raise SnapshotError(f"{path} holds no {what}: give the folder of the run, or a file that has it")
    if isinstance(found, models.Discriminator):
        return Critic(found, snapshot.info)
    labels = snapshot.G.label_size
    rows = snapshot.label_rows if snapshot.label_rows is not None else torch.eye(labels) if labels else None
    return of_generator(found, snapshot.info, rows)


def _is_foreign(path: Path) -> bool:
    """True for pickles, and for what holds one."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
        # A .safetensors file begins with the length of its header, whose lowest byte can be that of a pickle.
        if head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return False
        return head[:1] == b"\x80" or is_torch_file(path)
    except OSError:
        return False  # whoever reads it will say why


def _of_state(folder: RunFolder, resolution: int | None, network: Literal["G", "D"]) -> Snapshot | Critic:
    """G or D of a run's newest state, at the stage it had reached."""
    config, data = folder.read()
    if StateFolder(folder.state).newest() is None:
        raise SnapshotError(f"{folder.path} has no training state yet: the first comes with the first tick")
    state = initial.read(str(folder.path))
    if resolution not in (None, state.resolution):
        size = f"{state.resolution}x{state.resolution}"
        raise SnapshotError(f"{folder.path} is at {size}: its {network} is not that of {resolution}x{resolution}")

    names: tuple[str, ...] = data.label_names if config.dataset.labels else ()
    kind: LabelKind | None = None if not names else "attributes" if data.label_kind == "attributes" else "class"
    at = state.resolution, state.alpha, state.facts["cur_nimg"]
    info = SnapshotInfo(config, state.shape, *at, data.name, kind, names, progan=progan.__version__)
    G, D = models.build(config.model, state.shape, seed=0)
    made = D if network == "D" else G
    try:
        made.load_state_dict({name: state.weights[network][name] for name in made.state_dict()})
    except (KeyError, RuntimeError):
        raise SnapshotError(f"{folder.state} does not fit {folder.config}") from None
    if isinstance(made, models.Discriminator):
        return Critic(made, info)
    rows = None if not names else torch.eye(len(names))
    if kind == "attributes":
        rows = sampling.load(folder.path).label_rows
    return of_generator(made, info, rows)
