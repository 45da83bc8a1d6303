"""WGAN-GP with drift: values, intermediates and all gradients of the official code, at every stored level of detail."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from progan import losses
from progan.config import WganGpConfig
from progan.images import downscale
from progan.losses.wgan_gp import gradient_norms, mix
from progan.training.step import critic
from reference_networks import (
    GRADIENTS,
    IMAGES,
    SCORES,
    Arrays,
    Draws,
    discriminator,
    double,
    error,
    generator,
    group,
    load,
    lod_critic,
    parameters,
    relative_error,
    stage_of,
    synthesize,
    variables,
)

FINAL = 32
CASES = [("losses", lod) for lod in ("0.0", "0.5", "1.7", "3.0")] + [("losses_unfused", "0.5")]
LOSS = losses.build(WganGpConfig())


class Case(NamedTuple):
    """Networks and inputs of the file, and the numbers expected at this level of detail."""

    G: Any
    D: Any
    inputs: Arrays
    lod: float
    expected: dict[str, np.ndarray]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    file, lod = request.param
    fused, arrays = file == "losses", load(file)
    G = generator("a_r32", variables(load("generator_a_r32"), fused), fused)
    D = discriminator("a_r32", variables(load("discriminator_a_r32"), fused), fused)
    return Case(G, D, arrays, float(lod), group(arrays, f"lod{lod}/"))


def test_intermediates_at_the_final_resolution(case: Case) -> None:
    """The official networks always see images of 32x32; so do ours here."""
    official_d = lod_critic(case.D, FINAL, case.lod)
    reals = double(case.inputs["reals"])
    fakes = synthesize(case.G, case.inputs["latents_D"], case.inputs["labels_D"], case.lod).detach()
    assert error(fakes, case.expected["fake_images_D"]) < IMAGES
    mixed = mix(reals, fakes, double(case.inputs["mixing_factors"]).flatten()).requires_grad_(True)
    assert error(mixed, case.expected["mixed_images"]) < IMAGES
    real, fake, mixed_scores = (official_d(images).value for images in (reals, fakes, mixed))
    assert error(real, case.expected["real_scores"]) < SCORES
    assert error(fake, case.expected["fake_scores"]) < SCORES
    assert error(mixed_scores, case.expected["mixed_scores"]) < SCORES
    assert error(real.square(), case.expected["epsilon_penalty"]) < SCORES
    (gradients,) = torch.autograd.grad(mixed_scores.sum(), mixed)
    assert relative_error(gradients, double(case.expected["mixed_grads"])) < GRADIENTS
    norms = gradient_norms(official_d, mixed)
    assert error(norms, case.expected["mixed_norms"]) < SCORES
    # The authors' loss is [N, N], because [N, 1] meets [N]; its mean is what it should be.
    per_image = fake - real + 0.001 * real.square()
    assert error(per_image[:, None] + 10 * (norms - 1).square(), case.expected["D_loss"]) < SCORES


def test_loss_and_gradients_of_d_as_in_training(case: Case) -> None:
    """At the resolution of the stage, with the critic of a training step."""
    resolution, alpha = stage_of(case.lod, FINAL)
    reals = downscale(double(case.inputs["reals"]), FINAL // resolution)
    with torch.no_grad():
        fakes = case.G(double(case.inputs["latents_D"]), None, resolution, alpha)
    trained = critic(case.D, alpha, torch.float64, resolution / FINAL)
    terms = LOSS.d_terms(trained, reals, fakes, None, Draws(mixing=case.inputs["mixing_factors"]))
    assert terms.keys() == {"real", "fake", "drift", "penalty"}
    assert error(terms["real"], -case.expected["real_scores"].mean()) < SCORES
    assert error(terms["fake"], case.expected["fake_scores"].mean()) < SCORES
    assert error(terms["drift"], 0.001 * case.expected["epsilon_penalty"].mean()) < SCORES
    assert error(terms["penalty"], 10 * np.square(case.expected["mixed_norms"] - 1).mean()) < SCORES
    loss = torch.stack(list(terms.values())).sum()
    assert error(loss, case.expected["D_loss_mean"]) < SCORES
    check_gradients(loss, case.D, group(case.expected, "grad_D/"))


def test_loss_and_gradients_of_g_as_in_training(case: Case) -> None:
    resolution, alpha = stage_of(case.lod, FINAL)
    images = synthesize(case.G, case.inputs["latents_G"], case.inputs["labels_G"], case.lod)
    assert error(images, case.expected["fake_images_G"]) < IMAGES
    assert error(-lod_critic(case.D, FINAL, case.lod)(images).value, case.expected["G_loss"]) < SCORES
    fakes = case.G(double(case.inputs["latents_G"]), None, resolution, alpha)
    (loss,) = LOSS.g_terms(critic(case.D, alpha, torch.float64), None, fakes, None, None).values()
    assert error(loss, case.expected["G_loss_mean"]) < SCORES
    check_gradients(loss, case.G, group(case.expected, "grad_G/"))


def check_gradients(loss: Tensor, network: nn.Module, official: Arrays) -> None:
    """Of every parameter; those of layers that the stage does not use are exact zeros there, none here."""
    expected = parameters(official, FINAL, type(network))
    names, values = zip(*network.named_parameters(), strict=True)
    assert set(names) == set(expected)
    for name, value, ours in zip(
        names, values, torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True), strict=True
    ):
        assert ours.shape == value.shape
        assert relative_error(ours, expected[name]) < GRADIENTS, name


def test_every_array_of_the_loss_files_is_compared() -> None:
    inputs = {"reals", "labels_D", "labels_G", "latents_D", "latents_G", "mixing_factors"}
    compared = {"G_loss", "D_loss", "G_loss_mean", "D_loss_mean", "fake_images_G", "fake_images_D", "mixed_images"}
    compared |= {"mixed_grads", "real_scores", "fake_scores", "mixed_scores", "mixed_norms", "epsilon_penalty"}
    compared |= {"grad_G", "grad_D"}
    for file, lods in (("losses", {"lod0.0", "lod0.5", "lod1.7", "lod3.0"}), ("losses_unfused", {"lod0.5"})):
        names = [key.split("/") for key in load(file)]
        assert {name[0] for name in names} == inputs | lods
        assert {name[1] for name in names if len(name) > 1} == compared
