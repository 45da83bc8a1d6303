"""Presets: named, complete configurations.

A preset is a line on what it is, the preset it changes (none: the defaults of `config.py`), and its options by their
names on the command line. To add one, add an entry to PRESETS.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from progan.config import RunConfig
from progan.errors import ConfigError, did_you_mean
from progan.options import override


class Preset(NamedTuple):
    """Entry of PRESETS."""

    about: str
    options: Mapping[str, Any]
    base: str | None = None


_SMALL_WIDTH = {"fmap_base": 512, "fmap_max": 64}
_BARE = {"pixel_norm": "none", "normalize_latents": False, "mbstd_group": 1}
"""A Progressive GAN without its own normalisation layers and minibatch statistics."""
_DCGAN_ADAM = {"beta1": 0.5, "beta2": 0.999, "ema_decay": 0.99, "lr": 2e-4, "tick_kimg": 10}

_QUICKSTART = {
    "quickstart": Preset(
        "The embedded faces at 32x32, minutes on a CPU. The default.",
        {
            "resolution": 32,
            "stable_kimg": {4: 8, 8: 12, 16: 20, 32: 65},
            "fade_kimg": {8: 8, 16: 12, 32: 20},
            "lr": 0.002,
            "z_dim": 128,
            **_SMALL_WIDTH,
            "tick_kimg": 4,
        },
    ),
    "mnist32": Preset(
        "28x28 digits or clothes padded to 32x32, minutes on a CPU.",
        {"data": "", "stable_kimg": {4: 8, 8: 12, 16: 20, 32: 60}, "ema_decay": 0.998, "z_dim": 64},
        base="quickstart",
    ),
    "authors-mnist32": Preset(
        "MNIST at 32x32 in a small run that the authors' code made too, to lay the numbers side by side.",
        {
            "data": "",
            "resolution": 32,
            "stable_kimg": 15,
            "fade_kimg": 15,
            "total_kimg": 200,
            "batch_size": 32,
            "lr": 0.0015,
            "schedule_every": 4,
            "z_dim": 64,
            **_SMALL_WIDTH,
            "tick_kimg": 5,
        },
    ),
}

_LARGE = {
    "celeba64": Preset(
        "Faces at 64x64 with the paper's widths, unfused, minibatch statistics over the whole batch.",
        {
            "data": "",
            "stable_kimg": {4: 2000, 8: 1000},
            "fade_kimg": 1000,
            "batch_size": {4: 512, 8: 256, 16: 128, 32: 64, 64: 30},
            "fused_scale": False,
            "mbstd_group": 0,
        },
    ),
    "folder128": Preset(
        "Any folder of some thousand images at 128x128, mirrored, half the paper's width.",
        {
            "data": "",
            "mirror": True,
            "resolution": 128,
            "stable_kimg": {4: 300, 64: 600, 128: 1200},
            "fade_kimg": {8: 300, 64: 600},
            "batch_size": {4: 128, 16: 64, 64: 32, 128: 16},
            "fmap_base": 4096,
            "fmap_max": 256,
        },
    ),
    "celebahq256": Preset(
        "CelebA-HQ at 256x256 with the authors' schedule for one GPU.", {"resolution": 256}, base="authors1024-1gpu"
    ),
    "paper1024": Preset(
        "1024x1024 as in the paper: 800 + 800 thousand images a stage (appendix A.1).",
        {
            "data": "",
            "mirror": True,
            "resolution": 1024,
            "stable_kimg": 800,
            "fade_kimg": 800,
            "total_kimg": 19000,
            "batch_size": {4: 16, 256: 14, 512: 6, 1024: 3},
            "schedule_every": 4,
            "mbstd_group": 16,
        },
    ),
}

# The authors' later schedules, 600 + 600 thousand images a stage, by the number of GPUs: batch size and learning rate.
_AUTHORS = {
    f"authors1024-{gpus}gpu": Preset(
        "1024x1024 with the authors' later schedule for so many GPUs.",
        {
            "data": "",
            "mirror": True,
            "resolution": 1024,
            "total_kimg": 12000,
            "batch_size": batch_size,
            "lr": lr,
            "schedule_every": 4,
        },
    )
    for gpus, batch_size, lr in (
        (1, {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}, {4: 0.001, 1024: 0.0015}),
        (2, {4: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}, {4: 0.001, 512: 0.0015, 1024: 0.002}),
        (4, {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16}, {4: 0.001, 256: 0.0015, 512: 0.002, 1024: 0.003}),
        (8, {4: 512, 8: 256, 16: 128, 32: 64, 64: 32}, {4: 0.001, 128: 0.0015, 256: 0.002, 512: 0.003}),
    )
}

# Table 1 of the paper (section 6.1): from WGAN-GP's usual form to the paper's, one contribution at a time, at 128x128.
# Where the text is silent: (d) has all of the paper's settings that no later row adds, (h) ends after 15 million images.
_TABLE_1 = {
    "ablation-a": Preset(
        "Table 1 (a): WGAN-GP at 128x128 with batch and layer normalisation, not growing.",
        {
            "data": "",
            "resolution": 128,
            "start_resolution": 128,
            "stable_kimg": 800,
            "fade_kimg": 800,
            "total_kimg": 10000,
            "batch_size": 64,
            "lr": 1e-4,
            "d_steps": 5,
            "schedule_every": 4,
            "beta2": 0.9,
            "z_dim": 128,
            "fmap_base": 2048,
            "use_wscale": False,
            **_BARE,
            "fused_scale": False,
            "batch_norm": 0.1,
            "layer_norm": True,
            "g_activation": "relu",
            "tanh": True,
            "drift_weight": 0,
        },
    ),
    "ablation-b": Preset("Table 1 (b): grows.", {"start_resolution": 4}, base="ablation-a"),
    "ablation-c": Preset("Table 1 (c): batches of 16.", {"batch_size": 16}, base="ablation-b"),
    "ablation-d": Preset(
        "Table 1 (d): no batch or layer normalisation, one D step, the paper's other settings.",
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
        base="ablation-c",
    ),
    "ablation-e-star": Preset("Table 1 (e*): minibatch discrimination.", {"mbdisc_kernels": 100}, base="ablation-d"),
    "ablation-e": Preset("Table 1 (e): minibatch standard deviation instead.", {"mbstd_group": 16}, base="ablation-d"),
    "ablation-f": Preset("Table 1 (f): equalised learning rate.", {"use_wscale": True, "lr": 0.001}, base="ablation-e"),
    "ablation-g": Preset("Table 1 (g): pixelwise normalisation.", {"pixel_norm": "g"}, base="ablation-f"),
    "ablation-h": Preset(
        "Table 1 (h): full width, longer.", {"fmap_base": 8192, "total_kimg": 15000}, base="ablation-g"
    ),
}

_OTHER_GANS = {
    "dcgan32": Preset(
        "DCGAN at 32x32: one layer less in each network.", {"resolution": 32, "start_resolution": 32}, base="dcgan64"
    ),
    "dcgan64": Preset(
        "DCGAN at 64x64 as in PyTorch's tutorial: 8 epochs of cross-entropy.",
        {
            "data": "",
            "model": "dcgan",
            "loss": "nonsaturating",
            "start_resolution": 64,
            "stable_epochs": 8,
            "batch_size": 128,
            **_DCGAN_ADAM,
        },
    ),
    "lsgan32": Preset(
        "DCGAN's layers with least squares, 200 latents, dropout in D; 32x32.",
        {"resolution": 32, "start_resolution": 32},
        base="lsgan64",
    ),
    "lsgan64": Preset(
        "DCGAN's layers with least squares, 200 latents, dropout in D; 64x64.",
        {"loss": "lsgan", "batch_size": 64, "lr": 6e-4, "z_dim": 200, "dropout": 0.25},
        base="dcgan64",
    ),
    "growing-batchnorm64": Preset(
        "A DCGAN that grows from 8x8 to 64x64 in 2, 4, 8 and 16 epochs, without fades.",
        {
            "data": "",
            "model": "growing-batchnorm",
            "loss": "nonsaturating",
            "start_resolution": 8,
            "stable_epochs": {8: 2, 16: 4, 32: 8, 64: 16},
            "fade_kimg": 0,
            "batch_size": 128,
            **_DCGAN_ADAM,
        },
    ),
    "celebahq32-lsgan": Preset(
        "Growing to 32x32 by least squares, without any normalisation layer.",
        {**_BARE, "loss": "lsgan"},
        base="mnist32",
    ),
    "celebahq256-lsgan": Preset(
        "Growing to 256x256 by least squares, without any normalisation layer.",
        {**_BARE, "loss": "lsgan"},
        base="celebahq256",
    ),
    "celebahq32-bce-batchnorm": Preset(
        "Growing to 32x32 by cross-entropy, batch norm in G.",
        {**_BARE, "loss": "nonsaturating", "batch_norm": 0.2},
        base="mnist32",
    ),
    "celebahq256-bce-batchnorm": Preset(
        "Growing to 256x256 by cross-entropy, batch norm in G; reported to collapse at 32x32.",
        {**_BARE, "loss": "nonsaturating", "batch_norm": 0.2},
        base="celebahq256",
    ),
    "progan1024-lsgan": Preset(
        "The paper's 1024x1024 by least squares, with noise in D against running away (appendix B).",
        {"loss": "lsgan", "d_noise": 0.2},
        base="paper1024",
    ),
}

PRESETS: dict[str, Preset] = _QUICKSTART | _LARGE | _AUTHORS | _TABLE_1 | _OTHER_GANS


def about(name: str) -> str:
    """Description of a preset in one line."""
    return PRESETS[name].about


def preset(name: str) -> RunConfig:
    """Configuration of a preset. Raises ConfigError, with the nearest name, if there is none."""
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS) or f"; there are {', '.join(PRESETS)}"
        raise ConfigError(f"there is no preset {name!r}{hint}")
    found = PRESETS[name]
    base = RunConfig() if found.base is None else preset(found.base)
    return dataclasses.replace(override(base, found.options), preset=name)
