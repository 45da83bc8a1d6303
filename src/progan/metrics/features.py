"""From images to the features that metrics compare, by one of two networks.

- Convolutions with fixed random weights: always at hand, for any images, and the same on every machine.
- Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception architecture") with weights from a file of the user, a
  state_dict in the layout of torchvision. With 1,008 classes it is the network of the published FID and Inception
  scores, ported from TensorFlow; its average pooling leaves padding out of the count and its last block has a maximum
  in the place of the mean. With 1,000 classes it is torchvision's own, whose numbers are of another kind.
"""

import hashlib
import pickle
import struct
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.errors import ConfigError
from progan.images import to_images
from progan.metrics.base import Setting
from progan.randomness import latents, mix
from progan.tensorfile import from_bytes

_FIRST, _MOST, _LAST = 32, 128, 32  # feature maps of the random convolutions
_LOWEST = 4  # resolution that they bring the images to
_ENERGY = 1e-3  # added to mean squares of responses to images in -1…1 before the logarithm

SIZE, FEATURES, PORTED = 299, 2048, 1008
"""Inception-v3: pixels of a side of its input, features of its last pooling, classes of the one ported from TF."""
WHERE = "pt_inception-2015-12-05-6726825d.pth, from the releases of github.com/mseitzer/pytorch-fid"
KNOWN = {
    "6726825d": "pytorch-fid's port of the published network",
    "1a9a5a14": "torchvision's",
    "0cc3c7bd": "torchvision's",
}
"""First digits of the SHA-256 of the files in use; they are part of those files' names."""
NOT_A_STATE_DICT = (
    *(ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    *(EOFError, struct.error, pickle.UnpicklingError),
)
"""What PyTorch raises on files of other kinds: it takes whatever is no zip for an old pickle."""
_BN_EPSILON = 1e-3


class Features:
    """A network that several metrics ask about the same batch, one after another: it computes once.

    `network` takes `chunk` images at a time: pixels uint8 [n, C, R, R] -> float32 [n, F].
    """

    def __init__(self, network: Callable[[Tensor], Tensor], chunk: int = 64) -> None:
        self._network, self._chunk = network, chunk
        self.classes = getattr(network, "classes", 0)
        """Number of classes of a classifier, 0 of other networks."""
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [N, C, R, R] -> features float32 [N, F]."""
        if self._last is None or self._last[0] is not pixels:
            self._last = pixels, torch.cat([self._network(part) for part in torch.split(pixels, self._chunk)])
        return self._last[1]


class Scale:
    """Brings features to the units of a sample of them, float [N, F]: mean 0 and deviation 1 there."""

    def __init__(self, features: Tensor) -> None:
        deviation = features.double().std(0)
        # A feature that hardly varies in the sample must not outweigh all others.
        self._deviation = deviation.clamp_min(max(0.1 * float(deviation.mean()), 1e-9))
        self._mean = features.double().mean(0)

    def __call__(self, features: Tensor) -> Tensor:
        """float [N, F] -> float32 [N, F]."""
        return ((features - self._mean) / self._deviation).float()


def random_features(setting: Setting) -> Features:
    """The random convolutions of a setting. Raises ConfigError for images below 8x8."""
    setting.need_resolution("comparing features", 8)
    if "random" not in setting.networks:
        setting.networks["random"] = Features(RandomConvolutions(setting.device))
    network: Features = setting.networks["random"]
    return network


def inception_features(setting: Setting, metric: str) -> Features:
    """Inception-v3 of a setting, features then logits. Raises ConfigError without weights or for another file."""
    if "inception" not in setting.networks:
        setting.networks["inception"] = Features(_open_inception(setting, metric), chunk=32)
    network: Features = setting.networks["inception"]
    return network


class RandomConvolutions:
    """Pixels uint8 [N, C, R, R] -> features float32 [N, F], R a power of two from 8.

    3x3 convolutions of stride 2 and LeakyReLU 0.2 down to 4x4, with 32, 64, 128, 128 … maps and normal weights of
    variance 2/(9·C), the latents of fixed seeds. Features are 32 random mixtures of the last maps at each of the 16
    places, which say what is where, and the logarithm of the mean square of every map of every layer, which say how
    fine it is.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._weights: dict[tuple[int, int, int, int], Tensor] = {}

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        x = to_images(pixels.to(self._device))
        energies, layer, maps = [], 0, _FIRST
        while x.shape[2] > _LOWEST:
            x = F.leaky_relu(F.conv2d(x, self._weight(layer, maps, x.shape[1], 3), stride=2, padding=1), 0.2)
            energies.append((x.square().mean((2, 3)) + _ENERGY).log())
            layer, maps = layer + 1, min(2 * maps, _MOST)
        places = F.conv2d(x, self._weight(layer, _LAST, x.shape[1], 1))
        return torch.cat([places.flatten(1), *energies], 1)

    def _weight(self, layer: int, outputs: int, inputs: int, size: int) -> Tensor:
        """Normal weights [outputs, inputs, size, size] that follow from these four numbers alone."""
        key = (layer, outputs, inputs, size)
        if key not in self._weights:
            normals = torch.from_numpy(latents([mix(*key)], outputs * inputs * size * size))
            scale = (2 / (inputs * size * size)) ** 0.5
            self._weights[key] = (scale * normals).view(outputs, inputs, size, size).to(self._device)
        return self._weights[key]


def _open_inception(setting: Setting, metric: str) -> "Inception":
    path = setting.inception_weights
    if path is None:
        raise ConfigError(f"{metric} needs --inception-weights FILE, for instance {WHERE}")
    try:
        content = path.read_bytes()
        tensors: Mapping[str, Tensor]
        if path.suffix == ".safetensors":
            tensors = from_bytes(content)[1]
        else:  # of a pickle nothing but tensors is let in
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        network = Inception(tensors, setting.device)
        network(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    except OSError as error:
        raise ConfigError(f"--inception-weights {path} cannot be read: {error.strerror}") from None
    except NOT_A_STATE_DICT:
        raise ConfigError(f"--inception-weights {path} is no state_dict of Inception-v3. Take {WHERE}") from None
    digest = hashlib.sha256(content).hexdigest()
    setting.note(
        f"inception: {KNOWN.get(digest[:8], 'an unknown file')}, {network.classes} classes, sha256 {digest}; "
        "not verified against published values"
    )
    return network


class Inception:
    """Pixels uint8 [N, C, R, R], grey or RGB -> the 2,048 features and then the logits, float32 [N, 2048 + classes].

    Convolutions are padded so that the size stays, but for those of stride 2 and the two `valid` ones. The logits of
    the ported network leave out the bias, as the code of the published Inception scores does.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._layers: dict[str, tuple[Tensor, Tensor]] = {}
        for key in tensors:
            if key.endswith(".conv.weight"):
                name = key.removesuffix(".conv.weight")
                weight, bias = _folded(tensors, name)
                self._layers[name] = weight.to(device), bias.to(device)
        self._fc = tensors["fc.weight"].to(device, torch.float32)
        self.classes = len(self._fc)
        self._ported = self.classes == PORTED
        self._bias = None if self._ported else tensors["fc.bias"].to(device, torch.float32)
        self._device = device

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        x = resize(pixels.to(self._device, torch.float32).expand(-1, 3, -1, -1))
        x = (x - 128) / 128 if self._ported else x / 127.5 - 1
        # Stem: 299x299 to 35x35.
        x = self._conv(self._conv(x, "Conv2d_1a_3x3", stride=2), "Conv2d_2a_3x3", valid=True)
        x = F.max_pool2d(self._conv(x, "Conv2d_2b_3x3"), 3, 2)
        x = self._conv(self._conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3", valid=True)
        x = F.max_pool2d(x, 3, 2)
        # 35x35, 17x17 and 8x8 (table 1).
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self._block(x, name, ["branch1x1"], ["branch5x5_1", "branch5x5_2"], _numbered("branch3x3dbl", 3))
        x = self._reduction(x, "Mixed_6a", ["branch3x3"], _numbered("branch3x3dbl", 3))
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self._block(x, name, ["branch1x1"], _numbered("branch7x7", 3), _numbered("branch7x7dbl", 5))
        x = self._reduction(x, "Mixed_7a", _numbered("branch3x3", 2), _numbered("branch7x7x3", 4))
        x = self._wide(self._wide(x, "Mixed_7b"), "Mixed_7c")
        features = x.mean((2, 3))
        return torch.cat([features, F.linear(features, self._fc, self._bias)], 1)

    def _conv(self, x: Tensor, name: str, stride: int = 1, valid: bool = False) -> Tensor:
        weight, bias = self._layers[name]
        height, width = weight.shape[2:]
        padding = (0, 0) if valid or stride == 2 else (height // 2, width // 2)
        return F.conv2d(x, weight, bias, stride, padding).relu_()

    def _chain(self, x: Tensor, block: str, names: list[str], last_stride: int = 1) -> Tensor:
        for name in names:
            x = self._conv(x, f"{block}.{name}", last_stride if name == names[-1] else 1)
        return x

    def _block(self, x: Tensor, block: str, *chains: list[str]) -> Tensor:
        """Figures 5 and 6: chains of convolutions side by side, and one after a pooling."""
        return torch.cat([*(self._chain(x, block, chain) for chain in chains), self._pooled(x, block)], 1)

    def _reduction(self, x: Tensor, block: str, *chains: list[str]) -> Tensor:
        """Figure 10: the last convolution of every chain has stride 2, like the pooling beside them."""
        return torch.cat([*(self._chain(x, block, chain, 2) for chain in chains), F.max_pool2d(x, 3, 2)], 1)

    def _wide(self, x: Tensor, block: str) -> Tensor:
        """Figure 7: chains that end in a row and a column beside each other."""
        three = self._conv(x, f"{block}.branch3x3_1")
        double = self._chain(x, block, _numbered("branch3x3dbl", 2))
        ends = [self._conv(three, f"{block}.branch3x3_2{side}") for side in "ab"]
        ends += [self._conv(double, f"{block}.branch3x3dbl_3{side}") for side in "ab"]
        return torch.cat([self._conv(x, f"{block}.branch1x1"), *ends, self._pooled(x, block)], 1)

    def _pooled(self, x: Tensor, block: str) -> Tensor:
        if self._ported and block == "Mixed_7c":
            x = F.max_pool2d(x, 3, 1, 1)
        else:
            x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=not self._ported)
        return self._conv(x, f"{block}.branch_pool")


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(1, count + 1)]


def _folded(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch normalisation after it, as it is at evaluation."""
    gain, shift, mean, variance = (
        tensors[f"{name}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / (variance + _BN_EPSILON).sqrt()
    weight = tensors[f"{name}.conv.weight"].double() * scale[:, None, None, None]
    return weight.float(), (shift - mean * scale).float()


def resize(x: Tensor) -> Tensor:
    """Float [N, C, R, R] -> [N, C, 299, 299] as TensorFlow 1 did it: linear, the first pixels upon each other."""
    for _ in range(2):  # rows, then columns
        size = x.shape[-1]
        position = torch.arange(SIZE, device=x.device, dtype=torch.float32) * (size / SIZE)
        left = position.floor().long()
        right = (left + 1).clamp_max(size - 1)
        x = torch.lerp(x[..., left], x[..., right], position - left).mT
    return x
