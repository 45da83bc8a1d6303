"""Real images, the optimiser alone, and whole training iterations of the official code."""

import os
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from progan import losses
from progan.config import OptimizerConfig, WganGpConfig
from progan.images import upscale
from progan.models import ImageShape
from progan.schedule import Stage
from progan.training.accelerate import traced
from progan.training.optimizer import Adam
from progan.training.step import Executor, average, process_reals
from reference_networks import (
    IMAGES,
    SCORES,
    STEP,
    Draws,
    discriminator,
    double,
    error,
    generator,
    group,
    load,
    parameters,
    stage_of,
)
from steps import traced_step, train_d, train_g

REALS, ADAM, STEPS = load("process_reals"), load("adam"), load("train_steps")
ITERATIONS = range(8)
COMPILED = (0, 1, 2, 3, 4, 6, 7) if os.environ.get("PROGAN_HYPOTHESIS") == "thorough" else (3,)
"""Through a compiled step; each build takes half a minute. In float32 number 5 misses the bounds uncompiled as well."""


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("lod", sorted({key.split("/")[0] for key in REALS}))
def test_processed_reals(lod: str, mirrored: bool) -> None:
    case = group(REALS, f"{lod}/")
    resolution, alpha = stage_of(float(lod.removeprefix("lod")), 32)
    uniform = torch.from_numpy(case["mirror_uniform"]).flatten() if mirrored else None
    reals = process_reals(torch.from_numpy(case["in_uint8"]), alpha, uniform)
    assert reals.shape[2] == resolution
    assert error(upscale(reals, 32 // resolution), case["mirror_out" if mirrored else "out"]) < IMAGES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam(dtype: torch.dtype) -> None:
    """Gradients from 1 to 1e-12 and 0; step 3 holds a NaN and is left out; step 8 is all zeros; reset before step 6."""
    w = nn.Parameter(torch.tensor(ADAM["w0"], dtype=dtype))
    optimizer = Adam([w], OptimizerConfig(float(ADAM["beta1"]), float(ADAM["beta2"]), float(ADAM["epsilon"])))
    for i, gradient in enumerate(ADAM["grads"]):
        if ADAM["reset_before"][i]:
            optimizer.reset()
        w.grad = torch.from_numpy(gradient).to(dtype)
        assert optimizer.update(float(ADAM["lrate"][i])) == np.isfinite(gradient).all()
        assert error(w, ADAM["w_after"][i]) < 1e-6, f"step {i}"


def test_adam_in_the_form_of_pytorch_would_be_noticed() -> None:
    assert ADAM["note_torch_form_max_err"] > 1e-3


@pytest.mark.parametrize("i", ITERATIONS)
def test_training_iteration(i: int) -> None:
    """From the stored state: D step, average of G, G step; fades, resets, labels and learning rates included."""
    iterate(i, torch.float64)


@pytest.mark.parametrize("i", ITERATIONS)
def test_traced_training_iteration(i: int) -> None:
    """The same with gradients as training takes them."""
    iterate(i, torch.float64, partial(traced_step, kernels=False))


@pytest.mark.slow
@pytest.mark.skipif(traced.missing(torch.device("cpu")) is not None, reason="no C++ compiler")
@pytest.mark.parametrize("i", COMPILED)
def test_compiled_training_iteration(i: int) -> None:
    """The same in float32, with the gradients of the compiled step."""
    iterate(i, torch.float32, traced_step)


def iterate(i: int, dtype: torch.dtype, build: Callable[..., Executor] | None = None) -> None:
    now = group(STEPS, f"iter{i}/")
    G, D, G_ema, g_adam, d_adam = state_before(i, dtype)
    resolution, alpha = stage_of(float(now["lod"]), G.resolution)
    lr = float(now["lrate"])
    stage = Stage(resolution, "stable" if alpha == 1 else "fade", alpha, batch_size=8, g_lr=lr, d_lr=lr)
    loss = losses.build(WganGpConfig(), "class")
    shape = ImageShape(G.resolution, 3, G.label_size)
    step = build(G, D, loss, shape, stage, 8, dtype) if build else None
    reals = process_reals(torch.from_numpy(now["reals_uint8"]), alpha).to(dtype)
    draws, labels = Draws(now["latents_D"], now["mixing_factors"], dtype=dtype), double(now["labels_D"]).to(dtype)

    terms, updated = train_d(G, D, d_adam, loss, reals, labels, stage, draws, dtype, traced=step)
    assert updated
    assert error(torch.stack(list(terms.values())).sum(), now["D_loss_mean_before"]) < SCORES
    check(D, group(now, "after_D/D/"))
    average(G_ema, G, OptimizerConfig().ema_decay)
    check(G_ema, group(now, "after_D/Gs/"))

    draws, labels = Draws(now["latents_G"], dtype=dtype), double(now["labels_G"]).to(dtype)
    terms, updated = train_g(G, D, g_adam, loss, 8, labels, stage, draws, dtype, traced=step)
    assert updated
    assert error(torch.stack(list(terms.values())).sum(), now["G_loss_mean_before"]) < SCORES
    check(G, group(now, "after_G/G/"))
    check(D, group(now, "after_D/D/"))

    for name, network, adam in (("G", G, g_adam), ("D", D, d_adam)):
        moments = parameters(group(now, f"after_G/adam_v_{name}/"), G.resolution, type(network))
        for key, parameter in network.named_parameters():
            ours = adam.state[parameter]["exp_avg_sq"] if parameter in adam.state else torch.zeros_like(parameter)
            assert torch.allclose(ours.double(), moments[key], rtol=1e-3, atol=1e-3 * float(moments[key].max())), key
        for beta, power in ((adam.config.beta1, "beta1_power"), (adam.config.beta2, "beta2_power")):
            expected = now[f"after_G/adam_{name}/{power}"]  # TensorFlow's begins at beta and is always one ahead
            assert beta ** (adam.updates + 1) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


def state_before(i: int, dtype: torch.dtype = torch.float64):
    """G, D, G_ema, G's and D's optimiser as the official iteration `i` found them."""
    before = group(STEPS, f"iter{i - 1}/")
    stored = {
        "G": group(before, "after_G/G/") or group(STEPS, "init/G/"),
        "D": group(before, "after_D/D/") or group(STEPS, "init/D/"),
        "Gs": group(before, "after_D/Gs/") or group(STEPS, "init/Gs/"),
    }
    G, G_ema = (generator("train_steps", stored[name]) for name in ("G", "Gs"))
    D = discriminator("train_steps", stored["D"])
    for network in (G, G_ema, D):
        network.to(dtype)
    begun = max(j for j in range(i + 1) if STEPS[f"iter{j}/optimizer_reset_before"])
    adams = []
    for name, network in (("G", G), ("D", D)):
        adams.append(adam := Adam(network.parameters(), OptimizerConfig()))
        adam.updates = i - begun
        moments = parameters(group(before, f"after_G/adam_v_{name}/"), G.resolution, type(network))
        for key, parameter in network.named_parameters() if adam.updates else ():
            step = torch.tensor(float(adam.updates))
            zero = torch.zeros_like(parameter)
            adam.state[parameter] = {"step": step, "exp_avg": zero, "exp_avg_sq": moments[key].to(dtype)}
    return G, D, G_ema, *adams


def check(network: nn.Module, official: dict[str, np.ndarray]) -> None:
    expected = parameters(official, 16, type(network))
    for name, ours in network.state_dict().items():
        assert error(ours, expected[name].numpy()) < STEP, name


def test_every_array_of_the_training_file_is_compared() -> None:
    inputs = {"reals_uint8", "latents_D", "latents_G", "mixing_factors", "labels_D", "labels_G", "lod", "lrate"}
    compared = {"D_loss_mean_before", "G_loss_mean_before", "optimizer_reset_before", "after_D", "after_G"}
    for i in ITERATIONS:
        assert {key.split("/")[0] for key in group(STEPS, f"iter{i}/")} == inputs | compared


@pytest.mark.parametrize("i", ITERATIONS)
def test_optimizers_are_reset_when_the_stage_changes(i: int) -> None:
    """Our rule (the schedule's stage has another key) says what the authors' does (floor or ceil of lod changes)."""
    keys = []
    for j in (i - 1, i):
        resolution, alpha = stage_of(float(STEPS[f"iter{j}/lod"]), 16) if j >= 0 else (0, 1.0)
        keys.append(Stage(resolution, "stable" if alpha == 1 else "fade", alpha, 8, 0.0, 0.0).key)
    assert (keys[0] != keys[1]) == bool(STEPS[f"iter{i}/optimizer_reset_before"])
