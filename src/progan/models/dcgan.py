"""The networks of DCGAN (Radford et al. 2016) as PyTorch's tutorial builds them, for any power of two from 8 on.

Every layer but G's first and D's last has stride 2. They do not grow: `resolution` and `alpha` of a call must be the
final ones.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from progan.config import DcganConfig
from progan.models import base
from progan.models.base import Draws
from progan.models.layers import BatchNorm2d, dropout, leaky_relu, wide
from progan.models.strided import STD, FromLatents, StridedConv2d, ToScores
from progan.scores import Scores


def fmaps(width: int, most: int, final: int) -> list[int]:
    """Feature maps at 4, 8 … final/2, of a network whose images have `final` pixels: `width` at half of them."""
    return [min(width * final // (2 * 2**k), most) for k in range(2, final.bit_length() - 1)]


class Generator(base.Generator):
    """Latents to images of one resolution, by batch norm and ReLU; tanh at the end."""

    def __init__(self, config: DcganConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.z_dim, self.label_size, self.resolution = config.z_dim, label_size, resolution
        self.latents = config.latents
        maps = fmaps(config.width, config.fmap_max, resolution)
        self.first = FromLatents(config.z_dim, label_size, maps[0])
        self.norms = nn.ModuleList(BatchNorm2d(n, std=STD) for n in maps)
        self.convs = nn.ModuleList(
            StridedConv2d(n, m, transposed=True) for n, m in zip(maps, [*maps[1:], channels], strict=True)
        )

    def embed(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """First activation [N, C, 4, 4]. Latents are not normalised."""
        return torch.relu(self.norms[0](self.first(self.distributed(z), labels)))

    def synthesize(self, x: Tensor, resolution: int | None = None, alpha: float | Tensor = 1.0) -> Tensor:
        """Images of the final resolution."""
        assert resolution in (None, self.resolution), "a DCGAN has one resolution"
        for conv, norm in zip(self.convs[:-1], self.norms[1:], strict=True):
            x = torch.relu(norm(conv(x)))
        images = self.convs[-1](x)
        return torch.tanh(images.to(wide(images.dtype)))


class Discriminator(base.Discriminator):
    """Images of one resolution to scores, by batch norm and leaky ReLU; dropout where the configuration has it."""

    def __init__(self, config: DcganConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.resolution, self.dropout = resolution, config.dropout
        maps = fmaps(config.d_width or config.width, config.fmap_max, resolution)[::-1]
        self.convs = nn.ModuleList(StridedConv2d(n, m) for n, m in zip([channels, *maps[:-1]], maps, strict=True))
        self.norms = nn.ModuleList(BatchNorm2d(n, std=STD) for n in maps[1:])  # none on the images' own layer
        self.last = ToScores(maps[-1], label_size)

    def features(
        self, images: Tensor, alpha: float | Tensor = 1.0, noise: Draws | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Features of images of the final resolution."""
        r = images.shape[2]
        assert r == self.resolution, "a DCGAN has one resolution"
        x = dropout(leaky_relu(self.convs[0](images)), self.dropout, noise)
        yield f"{r}x{r}", x
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            r = x.shape[2]
            x = dropout(leaky_relu(norm(conv(x))), self.dropout, noise)
            yield f"{r}x{r}", x
        yield "last", x

    def score(self, x: Tensor) -> Scores:
        """Last features [N, C, 4, 4] -> scores."""
        scores: Scores = self.last(x)
        return scores
