"""Networks of two ports to PyTorch, facebookresearch/pytorch_GAN_zoo and akanimax/pro_gan_pytorch, as ours.

Both multiply by √2/√fan_in in every layer, where ours have a smaller gain in G's dense layer, ToRGB and D's last layer,
and pytorch_GAN_zoo multiplies the biases, too: weights and biases are changed so that our layers compute the same.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.config import ProGANConfig
from progan.errors import SnapshotError
from progan.importers import torch_file
from progan.importers.base import LIMIT, WITHOUT_D, WITHOUT_G, Imported, Refused, Weights, checked, taken
from progan.models import ImageShape
from progan.per_resolution import PerResolution
from progan.progress import Log, silent
from progan.snapshot import Snapshot

_GAINS = {"to_rgb": math.sqrt(2), "dense": 4.0, "dense1": math.sqrt(2)}
"""The ports' gains, as multiples of ours, of layers in which they differ."""
_TANH = {"WGANGP": False, "Logistic": False, "MSE": True, "DCGAN": True}
"""pytorch_GAN_zoo's losses, and whether G ends with tanh under them."""


def import_port(path: Path, licence: str = "", resolution: int | None = None, log: Log = silent) -> Snapshot:
    """The networks of a checkpoint of either port, the averaged generator, the trained one and D. Raises SnapshotError.

    `resolution`: at which it was trained last, which pro_gan_pytorch does not save; default: the highest it has.
    `log` gets a line for what could not be taken.
    """
    try:
        content = torch_file.read(path)
        if not isinstance(content, dict):
            raise Refused("it holds no dict of networks")
        port = _zoo if content.keys() & {"netG", "avgG", "config"} else _aka
        return port(content, resolution).snapshot(licence, log)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from None
    except Refused as error:
        raise SnapshotError(
            f"{path} cannot be imported as a checkpoint of pytorch_GAN_zoo or pro_gan_pytorch: {error}"
        ) from None


def _zoo(content: dict[Any, Any], resolution: int | None) -> Imported:
    """A checkpoint of pytorch_GAN_zoo: `config` and the state dicts `netG`, `netD`, `avgG`."""
    settings = content.get("config")
    settings = settings.values if isinstance(settings, torch_file.Settings) else settings
    if not isinstance(settings, dict):
        raise Refused("it has no config")
    states = {name: _state(content[name]) for name in ("netG", "netD", "avgG") if content.get(name) is not None}
    average = states.get("avgG", states.get("netG"))
    if average is None:
        raise Refused("it has neither netG nor avgG")

    # Widths and sizes are those of the tensors; the config says what these do not show.
    rgb = _numbered(average, "toRGBLayers.{}.module.weight")
    dense = _of(average, "formatLayer.module.weight", 2)
    maps = [weight.shape[1] for weight in rgb]
    final, classes = 4 << (len(rgb) - 1), _labels(settings)
    labels, equalized = sum(map(len, classes)), _choice(settings, "equalizedlR")
    if resolution not in (None, final):
        raise Refused(f"it was saved at {final}x{final}, not at {resolution}x{resolution}")
    if not 0 < dense.shape[1] - labels <= LIMIT:
        raise Refused(f"its generator has {dense.shape[1]} inputs, {labels} of them for labels")
    loss = settings.get("lossCriterion", "WGANGP")
    if loss not in _TANH:
        raise Refused(f"its loss {str(loss)[:40]!r} is not known")
    normed = _choice(settings, "perChannelNormalization")
    model = ProGANConfig(
        z_dim=dense.shape[1] - labels,
        fmaps=_widths(maps),
        use_wscale=equalized,
        pixel_norm="g" if normed else "none",
        normalize_latents=normed,
        mbstd_group=4 if _choice(settings, "miniBatchStdDev") else 1,
        fused_scale=False,
        leak=_fraction(settings, "leakyReluLeak", 0.2),
        g_first="unit-bias",
        tanh=_TANH[loss],
        tanh_last=_TANH[loss],
    )
    fade = _fraction(settings, "alpha", 0.0) if len(rgb) > 1 else 0.0

    def weights(state: Weights, names: Mapping[str, str]) -> dict[str, Tensor]:
        return _renamed(state, names, "{}.module.{}", equalized, scaled_bias=True)

    def critic() -> dict[str, Tensor] | None:
        if "netD" not in states:
            return None
        D = weights(states["netD"], _zoo_d(len(rgb)))
        if model.mbstd_group > 1:
            # Its deviation is √(n / (n - 1)) times ours; in the groups of 4 in which it was trained, this.
            D["conv.weight"] = torch.cat([D["conv.weight"][:, :-1], D["conv.weight"][:, -1:] * math.sqrt(4 / 3)], 1)
        for name in ("dense1.weight", "dense1.bias"):
            D[name] = D[name].roll(1, 0)  # class logits, then the score
        if fade and final == 8:
            notes.append("its discriminator does not fade into 8x8, as ours does: its scores are others until then")
        return D

    notes: list[str] = []
    D = taken(critic, WITHOUT_D, notes)
    return Imported(
        model,
        checked(ImageShape(final, rgb[-1].shape[0], labels)),
        final,
        1 - fade,
        weights(average, _zoo_g(len(rgb))),
        taken(lambda: weights(states["netG"], _zoo_g(len(rgb))), WITHOUT_G, notes) if "netG" in states else None,
        D,
        classes,
        notes,
    )


def _zoo_g(scales: int) -> dict[str, str]:
    """Our layers of G -> theirs."""
    names = {"dense": "formatLayer", "conv": "groupScale0.0"}
    for i in range(scales):
        names[f"to_rgb.{4 << i}"] = f"toRGBLayers.{i}"
        if i:
            names |= {f"blocks.{4 << i}.{k}": f"scaleLayers.{i - 1}.{k}" for k in (0, 1)}
    return names


def _zoo_d(scales: int) -> dict[str, str]:
    """Our layers of D -> theirs."""
    names = {"conv": "groupScaleZero.0", "dense0": "groupScaleZero.1", "dense1": "decisionLayer"}
    for i in range(scales):
        names[f"from_rgb.{4 << i}"] = f"fromRGBLayers.{i}"
        if i:
            names |= {f"blocks.{4 << i}.{k}": f"scaleLayers.{i - 1}.{k}" for k in (0, 1)}
    return names


def _labels(settings: Mapping[str, Any]) -> list[list[str]]:
    """Names of the values of each attribute, in the order of the one-hot columns; numbers where it has no names."""
    noise, latent = (settings.get(name) for name in ("noiseVectorDim", "latentVectorDim"))
    rest = latent - noise if isinstance(latent, int) and isinstance(noise, int) else 0
    count = settings.get("categoryVectorDim", rest)
    if type(count) is not int or not 0 <= count <= LIMIT:
        raise Refused("categoryVectorDim is no number of labels")
    order = settings.get("attribKeysOrder")
    named = []
    if isinstance(order, dict):
        for name, each in order.items():
            match each:
                case {"order": int() as place, "values": list() as values}:
                    named.append((place, str(name), [str(value) for value in values]))
    named.sort()
    if sum(len(values) for _, _, values in named) != count:
        return [[str(i) for i in range(count)]] if count else []
    if len(named) == 1:
        return [named[0][2]]
    return [[f"{name}={value}" for value in values] for _, name, values in named]


def _aka(content: dict[Any, Any], resolution: int | None) -> Imported:
    """A checkpoint of pro_gan_pytorch: `conf` and `state_dict` of `generator`, `discriminator`, `shadow_generator`."""
    parts = {"generator": content} if "state_dict" in content else content
    names = ("generator", "discriminator", "shadow_generator")
    confs, states = {}, {}
    for name in names:
        match parts.get(name):
            case {"conf": dict() as conf, "state_dict": dict() as state}:
                confs[name], states[name] = conf, _state(state)
    used = next((name for name in ("shadow_generator", "generator") if name in states), None)
    if used is None:
        raise Refused("it has no generator")
    average, conf = states[used], confs[used]
    rgb = _numbered(average, "rgb_converters.{}.weight")
    dense = _of(average, "layers.0.conv_1.weight", 4)  # of a transposed convolution: [in, out, 4, 4]
    final, equalized = 4 << (len(rgb) - 1), _choice(conf, "use_eql")
    at = final if resolution is None else resolution
    if at not in [4 << i for i in range(len(rgb))]:
        raise Refused(f"it has no layers of {at}x{at}, only up to {final}x{final}")
    maps = [weight.shape[1] for weight in rgb]

    def generator(state: Weights) -> dict[str, Tensor]:
        weight = _of(state, "layers.0.conv_1.weight", 4)
        state = {**state, "layers.0.conv_1.weight": weight.permute(1, 2, 3, 0).flatten(0, 2)}
        layers = {"dense": "layers.0.conv_1", "conv": "layers.0.conv_2"}
        for i in range(len(rgb)):
            layers[f"to_rgb.{4 << i}"] = f"rgb_converters.{i}"
            if i:
                layers |= {f"blocks.{4 << i}.{k}": f"layers.{i}.conv_{k + 1}" for k in (0, 1)}
        return _renamed(state, layers, "{}.{}", equalized, scaled_bias=False)

    def critic() -> tuple[int, dict[str, Tensor]] | None:
        """Units of its hidden layer, and its weights."""
        if "discriminator" not in states:
            return None
        if confs["discriminator"].get("num_classes"):
            raise Refused("it judges classes by an embedding, which ours does not have")
        state, last = states["discriminator"], len(rgb) - 1
        layers = {"conv": f"layers.{last}.conv_1", "dense0": f"layers.{last}.conv_2", "dense1": f"layers.{last}.conv_3"}
        for i in range(len(rgb)):
            layers[f"from_rgb.{4 << i}"] = f"from_rgb.{last - i}.0"
            if i:
                layers |= {f"blocks.{4 << i}.{k}": f"layers.{last - i}.conv_{k + 1}" for k in (0, 1)}
        # Its last two are convolutions over the whole.
        for name in ("conv_2", "conv_3"):
            weight = _of(state, f"layers.{last}.{name}.weight", 4)
            state = {**state, f"layers.{last}.{name}.weight": weight.flatten(1)}
        D = _renamed(state, layers, "{}.{}", _choice(confs["discriminator"], "use_eql"), scaled_bias=False)
        return len(D["dense0.weight"]), D

    notes: list[str] = []
    hidden, D = taken(critic, WITHOUT_D, notes) or (maps[0], None)
    if resolution is None and final > 4:
        size = f"{final}x{final}"
        notes.append(f"taken as trained at {size}, its highest; it does not say (progan import --resolution R)")
    model = ProGANConfig(
        z_dim=dense.shape[0],
        fmaps=_widths(maps),
        d_hidden=None if hidden == maps[0] else hidden,
        use_wscale=equalized,
        fused_scale=False,
        g_first="no-norm",
    )
    trained = states.get("generator")
    G = None if trained is None else taken(lambda: generator(trained), WITHOUT_G, notes)
    return Imported(
        model,
        checked(ImageShape(final, rgb[-1].shape[0])),
        at,
        1.0,
        generator(average),
        G,
        D,
        notes=notes,
    )


def _widths(maps: list[int]) -> PerResolution:
    """The option of the maps at 4x4, 8x8 …, where a resolution with as many as the one before is not named."""
    if not all(0 < n <= LIMIT for n in maps):
        raise Refused("it has layers of a strange width")
    pairs = [(4 << i, float(n)) for i, n in enumerate(maps) if i == 0 or n != maps[i - 1]]
    return PerResolution(tuple(pairs))


def _renamed(
    state: Weights, names: Mapping[str, str], form: str, equalized: bool, scaled_bias: bool
) -> dict[str, Tensor]:
    """Weights and biases by our names, changed so that our layers compute the same. Raises Refused for what is left."""
    tensors: dict[str, Tensor] = {}
    unknown = set(state)
    for ours, theirs in names.items():
        name, bias_name = form.format(theirs, "weight"), form.format(theirs, "bias")
        weight, bias = _of(state, name).float(), _of(state, bias_name).float()
        if equalized:
            bias = bias * math.sqrt(2 / max(weight[:1].numel(), 1)) if scaled_bias else bias
            weight = weight * _GAINS.get(ours.split(".")[0], 1.0)
        tensors |= {f"{ours}.weight": weight, f"{ours}.bias": bias}
        unknown -= {name, bias_name}
    if any("running_mean" in name for name in unknown):
        raise Refused("its networks have batch normalisation, which cannot be imported")
    if unknown:
        raise Refused(f"it has a tensor {min(unknown)[:60]!r}, which such networks have not")
    return tensors


def _state(state: Any) -> dict[str, Tensor]:
    """A state dict, without the prefix that DataParallel puts before every name."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise Refused("one of its networks is no state dict")
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise Refused("one of its networks holds more than tensors")
    parallel = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if parallel else name: value for name, value in state.items()}


def _of(state: Weights, name: str, dimensions: int | None = None) -> Tensor:
    if name not in state:
        if any("running_mean" in each for each in state):
            raise Refused("its networks have batch normalisation, which cannot be imported")
        raise Refused(f"it has no tensor {name}")
    value = state[name]
    if not value.is_floating_point() or value.ndim < 1 or (dimensions or value.ndim) != value.ndim:
        raise Refused(f"{name} is no weight")
    return value


def _numbered(state: Weights, form: str) -> list[Tensor]:
    """Weights of ToRGB layers, the lowest resolution first."""
    found: list[Tensor] = []
    while form.format(len(found)) in state:
        found.append(_of(state, form.format(len(found)), 4))
    if not 1 <= len(found) <= 9:
        _of(state, form.format(0))
        raise Refused(f"it has {len(found)} resolutions")
    return found


def _choice(settings: Mapping[Any, Any], name: str) -> bool:
    value = settings.get(name, True)
    if not isinstance(value, bool):
        raise Refused(f"{name} is neither true nor false")
    return value


def _fraction(settings: Mapping[Any, Any], name: str, default: float) -> float:
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Refused(f"{name} is no number from 0 to 1")
    return float(value)
