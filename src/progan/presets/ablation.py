"""Table 1 of the paper (section 6.1): from WGAN-GP's usual form to the paper's, one contribution at a time, at 128x128.

Where the text is silent: `ablation-d` takes all of the paper's settings that no later row adds; `ablation-h` ends after
15 million images.
"""

from collections.abc import Callable, Mapping
from typing import Any

from progan.config import DatasetConfig, OptimizerConfig, ProGANConfig, RunConfig, ScheduleConfig, WganGpConfig
from progan.options import override
from progan.per_resolution import per_resolution

_CHANGES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ablation-b": ("(b): grows.", {"start_resolution": 4}),
    "ablation-c": ("(c): batches of 16.", {"batch_size": 16}),
    "ablation-d": (
        "(d): no batch or layer normalisation, one D step, the paper's other settings.",
        {
            "batch_norm": 0,
            "layer_norm": False,
            "g_activation": "leaky-relu",
            "tanh": False,
            "z_dim": 512,
            "normalize_latents": True,
            "d_steps": 1,
            "beta2": 0.99,
            "drift_weight": 0.001,
        },
    ),
    "ablation-e-star": ("(e*): minibatch discrimination.", {"mbdisc_kernels": 100}),
    "ablation-e": ("(e): minibatch standard deviation instead.", {"mbdisc_kernels": 0, "mbstd_group": 16}),
    "ablation-f": ("(f): equalised learning rate.", {"use_wscale": True, "lr": 0.001}),
    "ablation-g": ("(g): pixelwise normalisation.", {"pixel_norm": "g"}),
    "ablation-h": ("(h): full width, longer.", {"fmap_base": 8192, "total_kimg": 15000}),
}


def _a() -> RunConfig:
    """Table 1 (a): WGAN-GP at 128x128 with batch and layer normalisation, not growing."""
    return RunConfig(
        dataset=DatasetConfig(data=""),
        schedule=ScheduleConfig(
            resolution=128,
            start_resolution=128,
            stable_kimg=per_resolution(800),
            fade_kimg=per_resolution(800),
            total_kimg=10000,
            batch_size=per_resolution(64),
            lr=per_resolution(1e-4),
            d_steps=5,
            schedule_every=4,
        ),
        optimizer=OptimizerConfig(beta2=0.9),
        model=ProGANConfig(
            z_dim=128,
            fmap_base=2048,
            use_wscale=False,
            pixel_norm="none",
            normalize_latents=False,
            mbstd_group=1,
            fused_scale=False,
            batch_norm=0.1,
            layer_norm=True,
            g_activation="relu",
            tanh=True,
        ),
        loss=WganGpConfig(drift_weight=0),
    )


def _row(last: str) -> Callable[[], RunConfig]:
    """The configuration after all changes up to and including that of `last`."""

    def make() -> RunConfig:
        config = _a()
        for name, (_, changes) in _CHANGES.items():
            config = override(config, changes)
            if name == last:
                break
        return config

    make.__doc__ = f"Table 1 {_CHANGES[last][0]}"
    return make


PRESETS: dict[str, Callable[[], RunConfig]] = {"ablation-a": _a} | {name: _row(name) for name in _CHANGES}
