"""Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception architecture") from a file of weights the user gives.

The file is a state_dict in the layout of torchvision. With 1,008 classes it is the network of the published FID and
Inception scores, ported from TensorFlow; its average pooling leaves padding out of the count and its last block has a
maximum in the place of the mean. With 1,000 classes it is torchvision's own, whose numbers are of another kind.
"""

import hashlib
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.setting import Setting
from progan.tensorfile import from_bytes

SIZE, FEATURES, PORTED = 299, 2048, 1008
"""Pixels of a side of what the network sees; features of its last pooling; classes of the network ported from TF."""
WHERE = "pt_inception-2015-12-05-6726825d.pth, from the releases of github.com/mseitzer/pytorch-fid"
KNOWN = {
    "6726825d": "pytorch-fid's port of the published network",
    "1a9a5a14": "torchvision's",
    "0cc3c7bd": "torchvision's",
}
"""First digits of the SHA-256 of files that are about; they are part of those files' names."""
NOT_A_STATE_DICT = (
    *(ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    *(EOFError, struct.error, pickle.UnpicklingError),
)
"""What PyTorch raises on files of other kinds: it takes whatever is no zip for an old pickle."""
_BN_EPSILON = 1e-3
_CHUNK = 32


def open_inception(metric: str, setting: Setting) -> "Inception":
    """The network of the setting's file. Raises ConfigError if none is given or it is no Inception-v3."""
    path = setting.inception_weights
    if path is None:
        raise ConfigError(f"{metric} needs --inception-weights FILE, for instance {WHERE}")
    try:
        content = path.read_bytes()
        tensors = _tensors(path, content)
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


def _tensors(path: Path, content: bytes) -> Mapping[str, Tensor]:
    """The state_dict; nothing of a pickle but tensors is let in."""
    if path.suffix == ".safetensors":
        return from_bytes(content)[1]
    tensors: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


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
                self._layers[name] = tuple(x.to(device) for x in _folded(tensors, name))  # type: ignore[assignment]
        self._fc = tensors["fc.weight"].to(device, torch.float32)
        self.classes = len(self._fc)
        self._ported = self.classes == PORTED
        self._bias = None if self._ported else tensors["fc.bias"].to(device, torch.float32)
        self._device = device

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([self._look(part) for part in torch.split(pixels, _CHUNK)])

    def _look(self, pixels: Tensor) -> Tensor:
        x = resize(pixels.to(self._device, torch.float32).expand(-1, 3, -1, -1))
        x = (x - 128) / 128 if self._ported else x / 127.5 - 1
        x = self._conv(self._conv(x, "Conv2d_1a_3x3", stride=2), "Conv2d_2a_3x3", valid=True)
        x = F.max_pool2d(self._conv(x, "Conv2d_2b_3x3"), 3, 2)
        x = self._conv(self._conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3", valid=True)
        x = F.max_pool2d(x, 3, 2)
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
        ends = [
            (three, "branch3x3_2a"),
            (three, "branch3x3_2b"),
            (double, "branch3x3dbl_3a"),
            (double, "branch3x3dbl_3b"),
        ]
        parts = [self._conv(start, f"{block}.{name}") for start, name in ends]
        return torch.cat([self._conv(x, f"{block}.branch1x1"), *parts, self._pooled(x, block)], 1)

    def _pooled(self, x: Tensor, block: str) -> Tensor:
        if self._ported and block == "Mixed_7c":
            x = F.max_pool2d(x, 3, 1, 1)
        else:
            x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=not self._ported)
        return self._conv(x, f"{block}.branch_pool")


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(1, count + 1)]


def _folded(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the normalisation after it, as it is at evaluation."""
    gain, shift, mean, variance = (
        tensors[f"{name}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / (variance + _BN_EPSILON).sqrt()
    weight = tensors[f"{name}.conv.weight"].double() * scale[:, None, None, None]
    return weight.float(), (shift - mean * scale).float()


def resize(x: Tensor) -> Tensor:
    """Float [N, C, R, R] -> [N, C, 299, 299] as TensorFlow 1 did it: linear, the first pixels upon each other."""
    return _resize_rows(_resize_rows(x).mT).mT


def _resize_rows(x: Tensor) -> Tensor:
    size = x.shape[-1]
    position = torch.arange(SIZE, device=x.device, dtype=torch.float32) * (size / SIZE)
    left = position.floor().long()
    right = (left + 1).clamp_max(size - 1)
    return torch.lerp(x[..., left], x[..., right], position - left)
