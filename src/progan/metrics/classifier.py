"""A small classifier that reads labels off images: trained on the real ones when it is first needed, then kept."""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from progan.files import write_whole
from progan.images import to_images


class LabelReader(nn.Module):
    """Six convolutions and a head with one logit for every label; the resolution is a multiple of 8.

    `sizes`: how many neighbouring labels exclude each other: [10] for ten digits, [5, 7, …] for attributes.
    """

    def __init__(self, resolution: int, channels: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        body = [*_block(channels, 24, 1), *_block(24, 48, 2), *_block(48, 48, 1), *_block(48, 96, 2)]
        body += [*_block(96, 96, 1), *_block(96, 128, 2)]
        head = [nn.Flatten(), nn.Linear(128 * (resolution // 8) ** 2, 256), nn.ReLU(), nn.Linear(256, sum(sizes))]
        self.layers = nn.Sequential(*body, *head)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images float [N, C, R, R] in -1…1 -> logits [N, size] of every group."""
        logits: Tensor = self.layers(images)
        return torch.split(logits, self.sizes, 1)

    @torch.no_grad()
    def read(self, pixels: Tensor) -> Tensor:
        """uint8 [N, C, R, R] -> the label of every group, int64 [N, groups]."""
        self.eval()
        parts = [self(to_images(part.to(self._device))) for part in torch.split(pixels, 500)]
        return torch.cat([torch.stack([out.argmax(1) for out in outs], 1) for outs in parts])

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def learn(self, pixels: Tensor, targets: Tensor, epochs: int = 6, batch: int = 100) -> None:
        """Cross-entropy of every group against targets int64 [N, groups], one learning-rate cycle."""
        steps = epochs * (len(pixels) // batch)
        optimizer = torch.optim.AdamW(self.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        self.train()
        for _ in range(epochs):
            for rows in torch.randperm(len(pixels))[: steps // epochs * batch].view(-1, batch):
                outs = self(to_images(pixels[rows].to(self._device)))
                wanted = targets[rows].to(self._device)
                losses = [nn.functional.cross_entropy(out, wanted[:, i]) for i, out in enumerate(outs)]
                optimizer.zero_grad()
                torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()


def trained(reader: LabelReader, pixels: Tensor, targets: Tensor, cache: Path, epochs: int = 6) -> LabelReader:
    """The reader after `learn`, taken from the file `cache` if it is there."""
    if cache.exists():
        reader.load_state_dict(safetensors.torch.load_file(cache))
    else:
        reader.learn(pixels, targets, epochs)
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, safetensors.torch.save(reader.state_dict()))
    return reader


def groups(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """One-hot rows float [N, L] -> the number of the label in every group, int64 [N, groups]."""
    return torch.stack([block.argmax(1) for block in torch.split(rows, list(sizes), 1)], 1)


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
