"""Presets of other GANs, for comparison."""

from collections.abc import Callable

from progan.config import (
    DatasetConfig,
    DcganConfig,
    GrowingBatchNormConfig,
    LossConfig,
    LsganConfig,
    NonsaturatingConfig,
    OptimizerConfig,
    RunConfig,
    RuntimeConfig,
    ScheduleConfig,
)
from progan.options import override
from progan.per_resolution import per_resolution
from progan.presets import paper

_BARE = {"pixel_norm": "none", "normalize_latents": False, "mbstd_group": 1}
"""A Progressive GAN without its own normalisation layers and minibatch statistics."""


def _dcgan64() -> RunConfig:
    """DCGAN at 64x64 as in PyTorch's tutorial: 8 epochs of cross-entropy."""
    return _dcgan(64, DcganConfig(), NonsaturatingConfig(), batch_size=128, lr=2e-4)


def _dcgan32() -> RunConfig:
    """DCGAN at 32x32, with one layer less in each network."""
    return _dcgan(32, DcganConfig(), NonsaturatingConfig(), batch_size=128, lr=2e-4)


def _lsgan64() -> RunConfig:
    """DCGAN's layers with least squares, 200 latents, dropout in D; 64x64."""
    return _dcgan(64, DcganConfig(z_dim=200, dropout=0.25), LsganConfig(), batch_size=64, lr=6e-4)


def _lsgan32() -> RunConfig:
    """DCGAN's layers with least squares, 200 latents, dropout in D; 32x32."""
    return _dcgan(32, DcganConfig(z_dim=200, dropout=0.25), LsganConfig(), batch_size=64, lr=6e-4)


def _growing_batchnorm64() -> RunConfig:
    """A DCGAN that grows from 8x8 to 64x64 in 2, 4, 8 and 16 epochs, without fades."""
    return RunConfig(
        dataset=DatasetConfig(data=""),
        schedule=ScheduleConfig(
            resolution=64,
            start_resolution=8,
            stable_epochs=per_resolution({8: 2, 16: 4, 32: 8, 64: 16}),
            fade_kimg=per_resolution(0),
            batch_size=per_resolution(128),
            lr=per_resolution(2e-4),
        ),
        optimizer=OptimizerConfig(beta1=0.5, beta2=0.999, ema_decay=0.99),
        model=GrowingBatchNormConfig(),
        loss=NonsaturatingConfig(),
        runtime=RuntimeConfig(tick_kimg=per_resolution(10)),
    )


def _celebahq256_lsgan() -> RunConfig:
    """Growing to 256x256 with least squares, without normalisation layers."""
    return override(paper.celebahq256(), {**_BARE, "loss": "lsgan"})


def _celebahq32_lsgan() -> RunConfig:
    """Growing to 32x32 with least squares, without normalisation layers."""
    return override(paper.mnist32(), {**_BARE, "loss": "lsgan"})


def _celebahq256_bce_batchnorm() -> RunConfig:
    """Growing to 256x256 with cross-entropy and batch norm in G; reported to collapse at 32x32."""
    return override(paper.celebahq256(), {**_BARE, "loss": "nonsaturating", "batch_norm": 0.2})


def _celebahq32_bce_batchnorm() -> RunConfig:
    """Growing to 32x32 with cross-entropy and batch norm in G."""
    return override(paper.mnist32(), {**_BARE, "loss": "nonsaturating", "batch_norm": 0.2})


def _progan1024_lsgan() -> RunConfig:
    """The paper's 1024x1024 with least squares, and noise in D against divergence (appendix B)."""
    return override(paper.paper1024(), {"loss": "lsgan", "d_noise": 0.2})


def _dcgan(resolution: int, model: DcganConfig, loss: LossConfig, batch_size: int, lr: float) -> RunConfig:
    return RunConfig(
        dataset=DatasetConfig(data=""),
        schedule=ScheduleConfig(
            resolution=resolution,
            start_resolution=resolution,
            stable_epochs=per_resolution(8),
            batch_size=per_resolution(batch_size),
            lr=per_resolution(lr),
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
    "growing-batchnorm64": _growing_batchnorm64,
    "celebahq32-lsgan": _celebahq32_lsgan,
    "celebahq256-lsgan": _celebahq256_lsgan,
    "celebahq32-bce-batchnorm": _celebahq32_bce_batchnorm,
    "celebahq256-bce-batchnorm": _celebahq256_bce_batchnorm,
    "progan1024-lsgan": _progan1024_lsgan,
}
