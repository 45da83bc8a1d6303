"""The authors' networks as a snapshot: their options and variables as those of `models/progan`."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from progan.config import ProGANConfig
from progan.errors import SnapshotError
from progan.importers.base import LIMIT, WITHOUT_D, WITHOUT_G, Imported, Refused, checked, taken
from progan.importers.pickled import PickledNetwork, read_networks
from progan.models import ImageShape
from progan.progress import Log, silent
from progan.snapshot import Snapshot

LICENCE = "CC BY-NC 4.0"
"""Licence of the networks the authors published."""
_FIXED = {"fmap_decay": 1.0, "pixelnorm_epsilon": 1e-8, "dtype": "float32"}
"""Options of the authors' functions that have no counterpart here, with their defaults."""
_WIDTHS = {"fmap_base": 8192, "fmap_max": 512}
"""Options that say how wide layers are, with their defaults."""
_SHAPE = {"resolution": 32, "num_channels": 1, "label_size": 0}
"""Options that say what images and labels are like, with their defaults."""
Variables = Mapping[str, npt.NDArray[np.float32]]


def import_official(path: Path, licence: str = LICENCE, log: Log = silent) -> Snapshot:
    """The networks of a pickle of the authors' TensorFlow code: the averaged generator, the trained one and D.

    The averaged one is needed; `log` gets a line for each other that could not be taken. Raises SnapshotError.
    """
    trained, critic, average = read_networks(path)
    try:
        return _imported(trained, critic, average).snapshot(licence, log)
    except Refused as error:
        raise SnapshotError(f"{path} cannot be imported: {error}") from None


def _imported(trained: PickledNetwork, critic: PickledNetwork, average: PickledNetwork) -> Imported:
    # By the names of the variables, since imported networks may be unfused and not say so.
    fused = "8x8/Conv0_up/weight" in average.variables
    model, shape = configuration(average, fused)
    resolution, alpha = _stage(average.variables.get("lod", np.zeros((), np.float32)), shape.resolution)
    Gs = _weights(average.variables, shape.resolution)
    labels = [list(map(str, range(shape.label_size)))] if shape.label_size else []
    notes: list[str] = []
    G = taken(lambda: _trained(trained, fused, model, shape), WITHOUT_G, notes)
    # With D's options. G computes the same fused or not; D does not.
    full, D = taken(lambda: _critic(critic, model, shape), WITHOUT_D, notes) or (model, None)
    return Imported(full, shape, resolution, alpha, Gs, G, D, labels, notes)


def _trained(network: PickledNetwork, fused: bool, model: ProGANConfig, shape: ImageShape) -> dict[str, Tensor]:
    """Weights of the generator of which the other is the average."""
    if configuration(network, fused) != (model, shape):
        raise Refused("its options are not those of the average")
    return _weights(network.variables, shape.resolution)


def _critic(network: PickledNetwork, model: ProGANConfig, shape: ImageShape) -> tuple[ProGANConfig, dict[str, Tensor]]:
    """Configuration with what D's options add, and weights of D. Raises Refused if it is no mirror of G."""
    if network.function != "D_paper":
        raise Refused(f"it was built by {network.function[:40]!r}, not by D_paper")
    _check_fixed(network)
    own = [_number(network, name, default) for name, default in {**_WIDTHS, **_SHAPE}.items()]
    theirs = [model.fmap_base, model.fmap_max, shape.resolution, shape.channels, shape.label_size]
    if own != theirs or _choice(network, "use_wscale") != model.use_wscale:
        raise Refused("its options are not those of the generator")
    group = _number(network, "mbstd_group_size", 4)
    fused = "8x8/Conv1_down/weight" in network.variables
    return replace(model, fused_scale=fused, mbstd_group=max(group, 1)), _weights(network.variables, shape.resolution)


def _weights(variables: Variables, final: int) -> dict[str, Tensor]:
    """Variables by our names and in our layout; those of other names keep theirs."""
    return {
        _our_name(name, final): torch.from_numpy(_our_layout(name, value))
        for name, value in variables.items()
        if name != "lod"
    }


def configuration(network: PickledNetwork, fused: bool) -> tuple[ProGANConfig, ImageShape]:
    """The configuration that the options stand for, what was left at its default filled in. Raises Refused."""
    if network.function != "G_paper":
        raise Refused(f"its third network was built by {network.function[:40]!r}, not by G_paper")
    _check_fixed(network)
    base, most = (_number(network, name, default, least=1) for name, default in _WIDTHS.items())
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
    return model, checked(ImageShape(*(_number(network, name, default) for name, default in _SHAPE.items())))


def _check_fixed(network: PickledNetwork) -> None:
    for name, default in _FIXED.items():
        if network.options.get(name, default) != default:
            raise Refused(f"{name} other than {default} is not supported")


def _number(network: PickledNetwork, name: str, default: int, least: int = 0) -> int:
    value = network.options.get(name)
    value = default if value is None else value
    if isinstance(value, bool | str) or not least <= value <= LIMIT or value != int(value):
        raise Refused(f"{name} is no whole number from {least} to {LIMIT}")
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


def _our_name(name: str, final: int) -> str:
    """`blocks.16.1.bias` for `16x16/Conv1/bias`. Level of detail 0 of their ToRGB is the highest resolution."""
    if match := re.fullmatch(r"(To|From)RGB_lod(\d)/(\w+)", name):
        return f"{match[1].lower()}_rgb.{final >> int(match[2])}.{match[3]}"
    if match := re.fullmatch(r"4x4/(Dense|Conv|Dense0|Dense1)/(\w+)", name):
        return f"{match[1].lower()}.{match[2]}"
    if match := re.fullmatch(r"(\d+)x\1/(?:Conv([01])|Conv(0)_up|Conv(1)_down)/(\w+)", name):
        return f"blocks.{match[1]}.{match[2] or match[3] or match[4]}.{match[5]}"
    return name


def _our_layout(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Dense [in, out] -> [out, in]; convolutions [kh, kw, in, out] -> [out, in, kh, kw].

    The fused up-convolution is stored as that of a transposed one, [kh, kw, out, in] and flipped.
    """
    if value.ndim == 4:
        fused = name.endswith("Conv0_up/weight")
        value = value[::-1, ::-1].transpose(2, 3, 0, 1) if fused else value.transpose(3, 2, 0, 1)
    return np.array(value.T if value.ndim == 2 else value, np.float32, order="C")
