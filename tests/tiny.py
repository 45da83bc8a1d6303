"""Settings of runs that take a second, such a run, and the weights of two compared."""

from pathlib import Path

import pytest
import torch

import progan
from progan.cli import main

TINY = {
    "data": "avatars:64",
    "loss": "wgan-gp",
    "resolution": 8,
    "stable_kimg": 0.2,
    "fade_kimg": 0.2,
    "batch_size": 8,
    "tick_kimg": 0.04,
    "fmap_max": 8,
    "z_dim": 8,
    "device": "cpu",
    "precision": "fp32",
    "compile": "off",
    "quiet": True,
}
"""Options of `progan.train`; a test puts in what it is about: `{**TINY, "resolution": 16}`."""


def flags(**options: object) -> list[str]:
    """The same for `progan train`, with other options put in; without `quiet`."""
    chosen = {**TINY, **options}
    del chosen["quiet"]
    return [part for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def made(folder: Path, **options: object) -> Path:
    """A finished run `run` in the folder, made by the command, with a cache of its own beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(folder / "cache"))
        assert main(["train", *flags(data="avatars:32", **options), "--quiet", "--out", str(folder / "run")]) == 0
    return folder / "run"


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Those of the newest snapshot's generator."""
    return progan.load(run).G.state_dict()


def assert_equal_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert all(torch.equal(first[name], second[name]) for name in first)
