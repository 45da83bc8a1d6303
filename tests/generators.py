"""Small generators of every kind, as snapshots and as runs, without training."""

from pathlib import Path

import torch

from progan import models, snapshot
from progan.config import ModelConfig, ProGANConfig, RunConfig, ScheduleConfig
from progan.models import ImageShape
from progan.run_folder import DataFacts, RunFolder
from progan.snapshot import Snapshot, SnapshotInfo

SMALL = ProGANConfig(fmap_base=64, fmap_max=16, z_dim=14)
"""A latent whose length is no multiple of four."""
ATTRIBUTES = ("hat=none", "hat=cap", "smile")


def small(
    model: ModelConfig = SMALL,
    resolution: int = 16,
    final: int = 16,
    channels: int = 3,
    kind: str | None = None,
    names: tuple[str, ...] = (),
    alpha: float = 1.0,
) -> Snapshot:
    """A generator with the weights of a seed; no bias and no batch statistic is what it begins with."""
    schedule = ScheduleConfig(resolution=final, start_resolution=8 if model.grows else final)
    config = RunConfig(model=model, schedule=schedule)
    shape = ImageShape(final, channels, len(names))
    G, _ = models.build(model, shape, seed=resolution)
    with torch.no_grad():
        for values in G.parameters():
            if values.ndim == 1:  # biases begin at 0, where nobody would miss them
                values.add_(0.1 * torch.randn(values.shape, generator=torch.Generator().manual_seed(1)))
    for name, buffer in G.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.linspace(0.5, 1.5, len(buffer)))
    rows = None
    if kind == "attributes":
        rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    elif kind:
        rows = torch.eye(len(names))
    info = SnapshotInfo(
        config=config,
        shape=shape,
        resolution=resolution,
        alpha=alpha,
        cur_nimg=1000 * resolution,
        dataset="drawn <things>",
        label_kind=kind,  # type: ignore[arg-type]
        label_names=names,
        licence="",
        progan="0",
    )
    return snapshot.of_generator(G, info, rows)


def write_run(path: Path, resolutions: tuple[int, ...] = (8, 16), stats: str = "", **settings: object) -> RunFolder:
    """A run folder with a snapshot of each resolution."""
    folder = RunFolder(path)
    last = small(resolution=max(resolutions), final=max(resolutions), **settings)  # type: ignore[arg-type]
    info = last.info
    facts = DataFacts("gone", info.dataset, "0", 10, info.shape.channels, info.label_kind, info.label_names)
    folder.write(info.config, facts)
    folder.snapshots.mkdir()
    for resolution in resolutions:
        each = small(resolution=resolution, final=max(resolutions), **settings)  # type: ignore[arg-type]
        name = f"generator-{each.info.cur_nimg:09d}-{resolution}x{resolution}.safetensors"
        each.save(folder.snapshots / name)
    folder.stats.write_text(stats)
    return folder
