"""The networks of DCGAN (Radford et al. 2016) as PyTorch's tutorial builds them, for any power of two from 8 on.

Every layer but G's first and D's last is a 4x4 convolution of stride 2. They do not grow: `resolution` and `alpha` of
a call must be the final ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.config import DcganConfig
from progan.models import interface
from progan.models.interface import Noise
from progan.models.layers import convolve, leaky_relu, wide
from progan.models.normalization import BatchNorm2d, dropout
from progan.scores import Scores

STD = 0.02
"""Of initial weights (round 0) and of initial batch-norm scales (round 1)."""


def fmaps(config: DcganConfig, resolution: int, final: int) -> int:
    """Feature maps at `resolution` of networks whose images have `final` pixels: `width` at half of them."""
    return min(config.width * final // (2 * resolution), config.fmap_max)


class StridedConv2d(nn.Module):
    """[N, in, 2H, 2W] -> [N, out, H, W], or the reverse if `transposed`; 4x4, no bias."""

    def __init__(self, inputs: int, outputs: int, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        self.weight = nn.Parameter(STD * torch.randn(*shape, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight.to(x.dtype), None, stride=2, padding=1, transposed=self.transposed)


class Generator(interface.Generator):
    """Latents to images of one resolution, by batch norm and ReLU; tanh at the end."""

    def __init__(self, config: DcganConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.z_dim, self.label_size, self.resolution = config.z_dim, label_size, resolution
        maps = [fmaps(config, 2**k, resolution) for k in range(2, resolution.bit_length() - 1)]  # at 4 … resolution/2
        # A transposed convolution of a single pixel.
        self.first = nn.Parameter(STD * torch.randn(config.z_dim + label_size, maps[0], 4, 4))
        self.norms = nn.ModuleList(BatchNorm2d(n, std=STD) for n in maps)
        self.convs = nn.ModuleList(
            StridedConv2d(n, m, transposed=True) for n, m in zip(maps, [*maps[1:], channels], strict=True)
        )

    def embed(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """See interface.Generator. Latents are normal, not normalised."""
        assert (labels is not None) == (self.label_size > 0), "labels go with a generator that was built for them"
        if labels is not None:
            z = torch.cat([z, labels.to(z.dtype)], 1)
        x = (z @ self.first.to(z.dtype).flatten(1)).view(len(z), *self.first.shape[1:])
        return F.relu(self.norms[0](x))

    def synthesize(self, x: Tensor, resolution: int | None = None, alpha: float | Tensor = 1.0) -> Tensor:
        """See interface.Generator."""
        assert resolution in (None, self.resolution), "a DCGAN has one resolution"
        for conv, norm in zip(self.convs[:-1], self.norms[1:], strict=True):
            x = F.relu(norm(conv(x)))
        images = self.convs[-1](x)
        return torch.tanh(images.to(wide(images.dtype)))


class Discriminator(interface.Discriminator):
    """Images of one resolution to scores, by batch norm and leaky ReLU; dropout where the configuration has it."""

    def __init__(self, config: DcganConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.resolution, self.dropout = resolution, config.dropout
        maps = [fmaps(config, 2**k, resolution) for k in reversed(range(2, resolution.bit_length() - 1))]
        self.convs = nn.ModuleList(StridedConv2d(n, m) for n, m in zip([channels, *maps[:-1]], maps, strict=True))
        self.norms = nn.ModuleList(BatchNorm2d(n, std=STD) for n in maps[1:])  # none on the images' own layer
        self.last = nn.Parameter(STD * torch.randn(1 + label_size, maps[-1], 4, 4))  # covers the whole 4x4

    def forward(self, images: Tensor, alpha: float | Tensor = 1.0, noise: Noise | None = None) -> Scores:
        """See interface.Discriminator."""
        assert images.shape[2] == self.resolution, "a DCGAN has one resolution"
        x = dropout(leaky_relu(self.convs[0](images)), self.dropout, noise)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = dropout(leaky_relu(norm(conv(x))), self.dropout, noise)
        x = x.to(wide(x.dtype))  # the score itself is never rounded to 16 bits
        out = x.flatten(1) @ self.last.to(x.dtype).flatten(1).T
        return Scores(out[:, 0], out[:, 1:] if out.shape[1] > 1 else None)
