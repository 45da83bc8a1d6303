"""Presets: named, complete configurations.

A preset is a line on what it is, options as one would write them on the command line, and the preset that they change
(none: the defaults of `config.py`). To add one, add an entry to PRESETS.
"""

import dataclasses
import shlex
from typing import NamedTuple

from progan.config import RunConfig
from progan.errors import ConfigError, did_you_mean
from progan.options import from_flags, override


class Preset(NamedTuple):
    """Entry of PRESETS."""

    about: str
    flags: str
    base: str | None = None
    paper: str | None = None
    """Preset whose loss and rates `--recipe paper` takes, where this one has others."""


RECIPES = ("fast", "paper")
_FAST = "--loss nonsaturating --r1-weight 1 --penalty-every 16 --lr 0.008"
"""Better images in the same minutes than with the paper's loss and rates: docs/training.md has what was measured."""

PRESETS: dict[str, Preset] = {
    # Small runs for a CPU.
    "quickstart": Preset(
        "The embedded faces at 64x64, half an hour or more on a CPU. The default.",
        f"{_FAST} --resolution 64 --stable-kimg 4:4,8:6,16:10,32:30,64:300 --fade-kimg 8:4,16:6,32:10,64:10",
        base="quickstart-paper",
        paper="quickstart-paper",
    ),
    # With the rate that the generator in the package was trained with.
    "avatars64": Preset(
        "The embedded faces at 64x64, as the generator in the package was trained: two hours on one core.",
        "--loss nonsaturating --r1-weight 1 --penalty-every 16 --lr 0.004 --resolution 64 --fmap-base 1024 "
        "--stable-kimg 4:4,8:6,16:10,32:40,64:400 --fade-kimg 8:4,16:6,32:10,64:20 --tick-kimg 10",
        base="quickstart-paper",
        paper="quickstart-paper",
    ),
    "mnist32": Preset(
        "28x28 digits or clothes padded to 32x32, minutes on a CPU.",
        f"{_FAST} --stable-kimg 4:4,8:6,16:10,32:90 --fade-kimg 8:4,16:6,32:10",
        base="mnist32-paper",
        paper="mnist32-paper",
    ),
    "authors-mnist32": Preset(
        "A small run on MNIST at 32x32 that was also made with the authors' code.",
        "--data '' --resolution 32 --stable-kimg 15 --fade-kimg 15 --total-kimg 200 --batch-size 32 "
        "--lr 0.0015 --schedule-every 4 --z-dim 64 --fmap-base 512 --fmap-max 64 --tick-kimg 5",
    ),
    # Faces at 64x64 on a laptop: an eighth of the paper's width, a twentieth of its length.
    "celeba64-laptop": Preset(
        "CelebA at 64x64 on a laptop's CPU: an eighth of the paper's width, hours.",
        "--data '' --mirror true --stable-kimg 4:10,8:20,16:40,32:80,64:260 --fade-kimg 8:10,16:20,32:30,64:40 "
        f"--batch-size 4:64,16:32,32:16 {_FAST} --z-dim 128 --fmap-base 1024 --fmap-max 128 --tick-kimg 10",
        paper="quickstart-paper",
    ),
    "faces64": Preset(
        "Your own photographs of faces at 64x64 on a laptop's CPU, mirrored, augmented where D memorises.",
        "--augment ada",
        base="celeba64-laptop",
        paper="quickstart-paper",
    ),
    # Faces and folders with more pixels.
    "celeba64": Preset(
        "Faces at 64x64 with the paper's widths, unfused scaling, minibatch statistics over the whole batch.",
        "--data '' --stable-kimg 4:2000,8:1000 --fade-kimg 1000 "
        "--batch-size 4:512,8:256,16:128,32:64,64:30 --fused-scale false --mbstd-group 0",
    ),
    "folder128": Preset(
        "Any folder of some thousand images at 128x128, mirrored, half the paper's width.",
        "--data '' --mirror true --resolution 128 --stable-kimg 4:300,64:600,128:1200 "
        "--fade-kimg 8:300,64:600 --batch-size 4:128,16:64,64:32,128:16 --fmap-base 4096 --fmap-max 256",
    ),
    "celebahq256": Preset(
        "CelebA-HQ at 256x256 with the authors' schedule for one GPU.", "--resolution 256", base="authors1024-1gpu"
    ),
    "paper1024": Preset(
        "1024x1024 as in the paper: 800 + 800 thousand images a stage (appendix A.1).",
        "--data '' --mirror true --resolution 1024 --stable-kimg 800 --fade-kimg 800 --total-kimg 19000 "
        "--batch-size 4:16,256:14,512:6,1024:3 --schedule-every 4 --mbstd-group 16",
    ),
    # The authors' later schedules, 600 + 600 thousand images a stage, by the number of GPUs.
    "authors1024-1gpu": Preset(
        "1024x1024 with the authors' later schedule for 1 GPU.",
        "--data '' --mirror true --resolution 1024 --total-kimg 12000 "
        "--batch-size 4:128,32:64,64:32,128:16,256:8,512:4 --lr 4:0.001,1024:0.0015 --schedule-every 4",
    ),
    "authors1024-2gpu": Preset(
        "1024x1024 with the authors' later schedule for 2 GPUs.",
        "--data '' --mirror true --resolution 1024 --total-kimg 12000 "
        "--batch-size 4:256,16:128,32:64,64:32,128:16,256:8 --lr 4:0.001,512:0.0015,1024:0.002 "
        "--schedule-every 4",
    ),
    "authors1024-4gpu": Preset(
        "1024x1024 with the authors' later schedule for 4 GPUs.",
        "--data '' --mirror true --resolution 1024 --total-kimg 12000 "
        "--batch-size 4:512,8:256,16:128,32:64,64:32,128:16 --lr 4:0.001,256:0.0015,512:0.002,1024:0.003 "
        "--schedule-every 4",
    ),
    "authors1024-8gpu": Preset(
        "1024x1024 with the authors' later schedule for 8 GPUs.",
        "--data '' --mirror true --resolution 1024 --total-kimg 12000 "
        "--batch-size 4:512,8:256,16:128,32:64,64:32 --lr 4:0.001,128:0.0015,256:0.002,512:0.003 "
        "--schedule-every 4",
    ),
    # Table 1 of the paper (section 6.1), at 128x128: from WGAN-GP's usual form to the paper's, one change at a time.
    # Where the text is silent: (d) has all of the paper's settings that no later row adds, (h) ends after 15 million.
    "ablation-a": Preset(
        "Table 1 (a): WGAN-GP at 128x128 with batch and layer normalisation, not growing.",
        "--data '' --resolution 128 --start-resolution 128 --stable-kimg 800 --fade-kimg 800 "
        "--total-kimg 10000 --batch-size 64 --lr 0.0001 --d-steps 5 --schedule-every 4 --beta2 0.9 "
        "--z-dim 128 --fmap-base 2048 --use-wscale false --pixel-norm none --normalize-latents false "
        "--mbstd-group 1 --fused-scale false --batch-norm 0.1 --layer-norm true --g-activation relu "
        "--tanh true --drift-weight 0",
    ),
    "ablation-b": Preset("Table 1 (b): grows.", "--start-resolution 4", base="ablation-a"),
    "ablation-c": Preset("Table 1 (c): batches of 16.", "--batch-size 16", base="ablation-b"),
    "ablation-d": Preset(
        "Table 1 (d): no batch or layer normalisation, one D step, the paper's other settings.",
        "--batch-norm 0 --layer-norm false --g-activation leaky-relu --tanh false --z-dim 512 "
        "--normalize-latents true --d-steps 1 --beta2 0.99 --drift-weight 0.001",
        base="ablation-c",
    ),
    "ablation-e-star": Preset("Table 1 (e*): minibatch discrimination.", "--mbdisc-kernels 100", base="ablation-d"),
    "ablation-e": Preset("Table 1 (e): minibatch standard deviation instead.", "--mbstd-group 16", base="ablation-d"),
    "ablation-f": Preset("Table 1 (f): equalised learning rate.", "--use-wscale true --lr 0.001", base="ablation-e"),
    "ablation-g": Preset("Table 1 (g): pixelwise normalisation.", "--pixel-norm g", base="ablation-f"),
    "ablation-h": Preset("Table 1 (h): full width, longer.", "--fmap-base 8192 --total-kimg 15000", base="ablation-g"),
    # ProGAN with the paper's loss at sizes for a CPU: what `compare` calls progan.
    "quickstart-paper": Preset(
        "The embedded faces at 32x32 with the paper's loss: what `compare` calls progan, for images in colour.",
        "--resolution 32 --stable-kimg 4:8,8:12,16:20,32:65 --fade-kimg 8:8,16:12,32:20 --lr 0.002 "
        "--z-dim 128 --fmap-base 512 --fmap-max 64 --tick-kimg 4",
    ),
    "mnist32-paper": Preset(
        "Digits or clothes at 32x32 with the paper's loss: what `compare` calls progan, for grey images.",
        "--data '' --stable-kimg 4:8,8:12,16:20,32:60 --ema-decay 0.998 --z-dim 64",
        base="quickstart-paper",
    ),
    # Other GANs, for comparison.
    "dcgan32": Preset(
        "DCGAN at 32x32, with one layer less in each network.", "--resolution 32 --start-resolution 32", base="dcgan64"
    ),
    "dcgan64": Preset(
        "DCGAN at 64x64 as in PyTorch's tutorial: 8 epochs of cross-entropy.",
        "--data '' --model dcgan --loss nonsaturating --start-resolution 64 --stable-epochs 8 "
        "--batch-size 128 --beta1 0.5 --beta2 0.999 --ema-decay 0.99 --lr 0.0002 --tick-kimg 10",
    ),
    "lsgan32": Preset(
        "DCGAN's layers with least squares, 200 latents, dropout in D; 32x32.",
        "--resolution 32 --start-resolution 32",
        base="lsgan64",
    ),
    "lsgan64": Preset(
        "DCGAN's layers with least squares, 200 latents, dropout in D; 64x64.",
        "--loss lsgan --batch-size 64 --lr 0.0006 --z-dim 200 --dropout 0.25",
        base="dcgan64",
    ),
    "growing-batchnorm64": Preset(
        "A DCGAN that grows from 8x8 to 64x64 in 2, 4, 8 and 16 epochs, without fades.",
        "--data '' --model growing-batchnorm --loss nonsaturating --start-resolution 8 "
        "--stable-epochs 8:2,16:4,32:8,64:16 --fade-kimg 0 --batch-size 128 --beta1 0.5 --beta2 0.999 "
        "--ema-decay 0.99 --lr 0.0002 --tick-kimg 10",
    ),
    "celebahq32-lsgan": Preset(
        "Growing to 32x32 with least squares, without normalisation layers.",
        "--pixel-norm none --normalize-latents false --mbstd-group 1 --loss lsgan",
        base="mnist32-paper",
    ),
    "celebahq256-lsgan": Preset(
        "Growing to 256x256 with least squares, without normalisation layers.",
        "--pixel-norm none --normalize-latents false --mbstd-group 1 --loss lsgan",
        base="celebahq256",
    ),
    "celebahq32-bce-batchnorm": Preset(
        "Growing to 32x32 with cross-entropy and batch norm in G.",
        "--pixel-norm none --normalize-latents false --mbstd-group 1 --loss nonsaturating --batch-norm 0.2",
        base="mnist32-paper",
    ),
    "celebahq256-bce-batchnorm": Preset(
        "Growing to 256x256 with cross-entropy and batch norm in G; reported to collapse at 32x32.",
        "--pixel-norm none --normalize-latents false --mbstd-group 1 --loss nonsaturating --batch-norm 0.2",
        base="celebahq256",
    ),
    "progan1024-lsgan": Preset(
        "The paper's 1024x1024 with least squares, and noise in D against divergence (appendix B).",
        "--loss lsgan --d-noise 0.2",
        base="paper1024",
    ),
}


def about(name: str) -> str:
    """Description of a preset in one line."""
    return PRESETS[name].about


def preset(name: str, recipe: str | None = None, loss: str | None = None) -> RunConfig:
    """Configuration of a preset; with `recipe` "paper", with the loss and rates of the paper. Its rates, too, if `loss`
    names another one than the preset's, since a recipe's rates are those for its own loss.

    Raises ConfigError, with the nearest name, if there is no such preset, and for a recipe of one that has no other.
    """
    if not isinstance(name, str) or name not in PRESETS:
        hint = did_you_mean(str(name), PRESETS) or f"; there are {', '.join(PRESETS)}"
        raise ConfigError(f"there is no preset {name!r}{hint}")
    found = PRESETS[name]
    base = RunConfig() if found.base is None else preset(found.base)
    config = dataclasses.replace(override(base, from_flags(shlex.split(found.flags))), preset=name)
    if recipe is not None and (recipe not in RECIPES or found.paper is None):
        what = f"must be {' or '.join(RECIPES)}; got {recipe!r}" if found.paper else f"is of no use: {name} has but one"
        raise ConfigError(f"--recipe {what}")
    if found.paper is None or (recipe != "paper" and loss in (None, config.loss.kind)):
        return config
    paper = preset(found.paper)
    schedule = dataclasses.replace(config.schedule, lr=paper.schedule.lr, d_lr=paper.schedule.d_lr)
    return dataclasses.replace(config, schedule=schedule, optimizer=paper.optimizer, loss=paper.loss)
