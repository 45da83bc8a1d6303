"""Presets of Progressive GANs: the authors' schedules, and small ones."""

from collections.abc import Callable

from progan.config import (
    DatasetConfig,
    OptimizerConfig,
    ProGANConfig,
    RunConfig,
    RuntimeConfig,
    ScheduleConfig,
)
from progan.per_resolution import PerResolution, per_resolution

# Schedules of the authors' own configuration file, by the number of GPUs: batch size and learning rate.
_AUTHORS = {
    1: ({4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}, {4: 0.001, 1024: 0.0015}),
    2: ({4: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}, {4: 0.001, 512: 0.0015, 1024: 0.002}),
    4: ({4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16}, {4: 0.001, 256: 0.0015, 512: 0.002, 1024: 0.003}),
    8: ({4: 512, 8: 256, 16: 128, 32: 64, 64: 32}, {4: 0.001, 128: 0.0015, 256: 0.002, 512: 0.003}),
}


def _quickstart() -> RunConfig:
    """The embedded faces at 32x32, minutes on a CPU. The default."""
    return RunConfig(
        dataset=DatasetConfig(data="avatars"),
        schedule=ScheduleConfig(
            resolution=32,
            stable_kimg=per_resolution({4: 8, 8: 12, 16: 20, 32: 65}),
            fade_kimg=per_resolution({8: 8, 16: 12, 32: 20}),
            batch_size=per_resolution(16),
            lr=per_resolution(0.002),
        ),
        model=ProGANConfig(z_dim=128, fmap_base=512, fmap_max=64),
        runtime=RuntimeConfig(tick_kimg=per_resolution(4)),
    )


def mnist32() -> RunConfig:
    """28x28 digits or clothes padded to 32x32, minutes on a CPU."""
    return RunConfig(
        dataset=DatasetConfig(data=""),
        schedule=ScheduleConfig(
            resolution=32,
            stable_kimg=per_resolution({4: 8, 8: 12, 16: 20, 32: 60}),
            fade_kimg=per_resolution({8: 8, 16: 12, 32: 20}),
            batch_size=per_resolution(16),
            lr=per_resolution(0.002),
        ),
        optimizer=OptimizerConfig(ema_decay=0.998),
        model=ProGANConfig(z_dim=64, fmap_base=512, fmap_max=64),
        runtime=RuntimeConfig(tick_kimg=per_resolution(4)),
    )


def _authors_mnist32() -> RunConfig:
    """A small run on MNIST at 32x32 that was also made with the authors' code."""
    return RunConfig(
        dataset=DatasetConfig(data=""),
        schedule=ScheduleConfig(
            resolution=32,
            stable_kimg=per_resolution(15),
            fade_kimg=per_resolution(15),
            total_kimg=200,
            batch_size=per_resolution(32),
            lr=per_resolution(0.0015),
            schedule_every=4,
        ),
        model=ProGANConfig(z_dim=64, fmap_base=512, fmap_max=64),
        runtime=RuntimeConfig(tick_kimg=per_resolution(5)),
    )


def _celeba64() -> RunConfig:
    """Faces at 64x64 with the paper's widths, unfused scaling, minibatch statistics over the whole batch."""
    return RunConfig(
        dataset=DatasetConfig(data=""),
        schedule=ScheduleConfig(
            resolution=64,
            stable_kimg=per_resolution({4: 2000, 8: 1000}),
            fade_kimg=per_resolution(1000),
            batch_size=per_resolution({4: 512, 8: 256, 16: 128, 32: 64, 64: 30}),
        ),
        model=ProGANConfig(fused_scale=False, mbstd_group=0),
    )


def _folder128() -> RunConfig:
    """Any folder of some thousand images at 128x128, mirrored, half the paper's width."""
    return RunConfig(
        dataset=DatasetConfig(data="", mirror=True),
        schedule=ScheduleConfig(
            resolution=128,
            stable_kimg=per_resolution({4: 300, 64: 600, 128: 1200}),
            fade_kimg=per_resolution({8: 300, 64: 600}),
            batch_size=per_resolution({4: 128, 16: 64, 64: 32, 128: 16}),
        ),
        model=ProGANConfig(fmap_base=4096, fmap_max=256),
    )


def celebahq256() -> RunConfig:
    """CelebA-HQ at 256x256 with the authors' schedule for one GPU."""
    return _authors(1, resolution=256)


def paper1024() -> RunConfig:
    """1024x1024 as in the paper: 800 + 800 thousand images a stage (appendix A.1)."""
    return RunConfig(
        dataset=DatasetConfig(data="", mirror=True),
        schedule=ScheduleConfig(
            resolution=1024,
            stable_kimg=per_resolution(800),
            fade_kimg=per_resolution(800),
            total_kimg=19000,
            batch_size=per_resolution({4: 16, 256: 14, 512: 6, 1024: 3}),
            schedule_every=4,
        ),
        model=ProGANConfig(mbstd_group=16),
    )


def _authors(gpus: int, resolution: int = 1024) -> RunConfig:
    """The authors' later schedule: 600 + 600 thousand images a stage, batch and learning rate by number of GPUs."""
    batch_size, lr = _AUTHORS[gpus]
    return RunConfig(
        dataset=DatasetConfig(data="", mirror=True),
        schedule=ScheduleConfig(
            resolution=resolution,
            total_kimg=12000,
            batch_size=per_resolution(batch_size),
            lr=PerResolution.of(lr),
            schedule_every=4,
        ),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "quickstart": _quickstart,
    "mnist32": mnist32,
    "authors-mnist32": _authors_mnist32,
    "celeba64": _celeba64,
    "folder128": _folder128,
    "celebahq256": celebahq256,
    "paper1024": paper1024,
    "authors1024-1gpu": lambda: _authors(1),
    "authors1024-2gpu": lambda: _authors(2),
    "authors1024-4gpu": lambda: _authors(4),
    "authors1024-8gpu": lambda: _authors(8),
}
