"""Presets of other GANs, for comparison."""

from collections.abc import Callable

from progan.config import (
    DatasetConfig,
    DcganConfig,
    LossConfig,
    LsganConfig,
    NonsaturatingConfig,
    OptimizerConfig,
    RunConfig,
    RuntimeConfig,
    ScheduleConfig,
)
from progan.per_resolution import per_resolution


def _dcgan64() -> RunConfig:
    """DCGAN at 64x64 as in PyTorch's tutorial: 8 epochs of cross-entropy."""
    return _dcgan(64, DcganConfig(), NonsaturatingConfig(), batch_size=128)


def _dcgan32() -> RunConfig:
    """DCGAN at 32x32: one layer less in each network."""
    return _dcgan(32, DcganConfig(), NonsaturatingConfig(), batch_size=128)


def _lsgan64() -> RunConfig:
    """DCGAN's layers with least squares, 200 latents, dropout in D; 64x64."""
    return _dcgan(64, DcganConfig(z_dim=200, dropout=0.25), LsganConfig(), batch_size=64)


def _lsgan32() -> RunConfig:
    """DCGAN's layers with least squares, 200 latents, dropout in D; 32x32."""
    return _dcgan(32, DcganConfig(z_dim=200, dropout=0.25), LsganConfig(), batch_size=64)


def _dcgan(resolution: int, model: DcganConfig, loss: LossConfig, batch_size: int) -> RunConfig:
    return RunConfig(
        dataset=DatasetConfig(data=""),
        schedule=ScheduleConfig(
            resolution=resolution,
            start_resolution=resolution,
            stable_epochs=per_resolution(8),
            batch_size=per_resolution(batch_size),
            lr=per_resolution(2e-4),
        ),
        optimizer=OptimizerConfig(beta1=0.5, beta2=0.999, ema_decay=0.99),
        model=model,
        loss=loss,
        runtime=RuntimeConfig(tick_kimg=per_resolution(10)),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "dcgan32": _dcgan32,
    "dcgan64": _dcgan64,
    "lsgan32": _lsgan32,
    "lsgan64": _lsgan64,
}
