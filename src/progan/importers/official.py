"""The authors' generator as a snapshot: their options and variables as those of `models/progan`."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import progan
from progan import models
from progan.config import DatasetConfig, ProGANConfig, RunConfig, ScheduleConfig
from progan.data.dataset import LabelKind
from progan.errors import SnapshotError
from progan.importers.pickled import PickledNetwork, Refused, read_networks
from progan.models import ImageShape
from progan.per_resolution import RESOLUTIONS
from progan.snapshot import Snapshot, SnapshotInfo, of_generator

LICENCE = "CC BY-NC 4.0"
"""Licence of the networks the authors published."""
_LIMIT = 2**16  # of channels, latents and labels
_FIXED = {"fmap_decay": 1.0, "pixelnorm_epsilon": 1e-8, "dtype": "float32"}
"""Options of the authors' function that have no counterpart here, with their defaults."""


def import_official(path: Path, licence: str = LICENCE) -> Snapshot:
    """The averaged generator of a network pickle of the authors' TensorFlow code. Raises SnapshotError."""
    network = read_networks(path)[2]
    try:
        return _snapshot(network, licence)
    except Refused as error:
        raise SnapshotError(f"{path} cannot be imported: {error}") from None


def _snapshot(network: PickledNetwork, licence: str) -> Snapshot:
    variables = dict(network.variables)
    fused = "8x8/Conv0_up/weight" in variables  # by the names, since imported networks may be unfused and not say so
    model, shape = configuration(network, fused)
    resolution, alpha = _stage(variables.pop("lod", np.zeros((), np.float32)), shape.resolution)
    with torch.device("meta"):
        G, _ = models.build(model, shape, seed=0)
    tensors = {}
    for name, expected in G.state_dict().items():
        official = _official_name(name, shape.resolution, fused)
        if official not in variables:
            raise Refused(f"it has no variable {official}")
        tensors[name] = torch.from_numpy(_our_layout(official, variables.pop(official)))
        if tensors[name].shape != expected.shape:
            raise Refused(f"{official} has another shape than its options say")
    if variables:
        raise Refused(f"it has a variable {min(variables)[:40]!r}, which a G_paper network has not")
    G.load_state_dict(tensors, assign=True)
    labels = tuple(map(str, range(shape.label_size)))
    config = RunConfig(
        dataset=DatasetConfig(data="", labels=bool(labels)),
        schedule=ScheduleConfig(resolution=shape.resolution),
        model=model,
    )
    kind: LabelKind | None = "class" if labels else None
    info = SnapshotInfo(config, shape, resolution, alpha, 0, "", kind, labels, licence, progan.__version__)
    return of_generator(G, info, torch.eye(len(labels)) if labels else None)


def configuration(network: PickledNetwork, fused: bool) -> tuple[ProGANConfig, ImageShape]:
    """The configuration that the options stand for, what was left at its default filled in. Raises Refused."""
    if network.function != "G_paper":
        raise Refused(f"its third network was built by {network.function[:40]!r}, not by G_paper")
    for name, default in _FIXED.items():
        if network.options.get(name, default) != default:
            raise Refused(f"{name} other than {default} is not supported")
    base, most = _number(network, "fmap_base", 8192, least=1), _number(network, "fmap_max", 512, least=1)
    model = ProGANConfig(
        z_dim=_number(network, "latent_size", min(base, most), least=1),
        fmap_base=base,
        fmap_max=most,
        use_wscale=_choice(network, "use_wscale"),
        pixel_norm="g" if _choice(network, "use_pixelnorm") else "none",
        g_activation="leaky-relu" if _choice(network, "use_leakyrelu") else "relu",
        normalize_latents=_choice(network, "normalize_latents"),
        fused_scale=fused,
    )
    resolution, channels = _number(network, "resolution", 32), _number(network, "num_channels", 1)
    if resolution not in RESOLUTIONS or channels not in (1, 3):
        raise Refused(f"it makes images of {resolution}x{resolution} pixels with {channels} channels")
    return model, ImageShape(resolution, channels, _number(network, "label_size", 0))


def _number(network: PickledNetwork, name: str, default: int, least: int = 0) -> int:
    value = network.options.get(name)
    value = default if value is None else value
    if isinstance(value, bool | str) or not least <= value <= _LIMIT or value != int(value):
        raise Refused(f"{name} is no whole number from {least} to {_LIMIT}")
    return int(value)


def _choice(network: PickledNetwork, name: str) -> bool:
    value = network.options.get(name, True)
    if not isinstance(value, bool):
        raise Refused(f"{name} is neither true nor false")
    return value


def _stage(lod: npt.NDArray[np.float32], final: int) -> tuple[int, float]:
    """Resolution and alpha of the level of detail at which the network was saved."""
    level = float(lod) if lod.shape == () else -1
    if not 0 <= level <= math.log2(final) - 2:
        raise Refused("lod is no level of detail")
    return final >> math.floor(level), 1 - level % 1


def _official_name(name: str, final: int, fused: bool) -> str:
    """`16x16/Conv1/bias` for `blocks.16.1.bias`. Level of detail 0 of their ToRGB is the highest resolution."""
    match name.split("."):
        case ["blocks", size, "0", kind]:
            return f"{size}x{size}/{'Conv0_up' if fused else 'Conv0'}/{kind}"
        case ["blocks", size, "1", kind]:
            return f"{size}x{size}/Conv1/{kind}"
        case ["to_rgb", size, kind]:
            return f"ToRGB_lod{int(math.log2(final // int(size)))}/{kind}"
        case [layer, kind]:
            return f"4x4/{layer.title()}/{kind}"
    raise AssertionError(name)


def _our_layout(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Dense [in, out] -> [out, in]; convolutions [kh, kw, in, out] -> [out, in, kh, kw].

    The fused up-convolution is stored as that of a transposed one, [kh, kw, out, in] and flipped.
    """
    if value.ndim == 4:
        fused = name.endswith("Conv0_up/weight")
        value = value[::-1, ::-1].transpose(2, 3, 0, 1) if fused else value.transpose(3, 2, 0, 1)
    return np.array(value.T if value.ndim == 2 else value, np.float32, order="C")
