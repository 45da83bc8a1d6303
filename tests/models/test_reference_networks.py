"""Images and scores of the official G and D, at every level of detail, fused and not, with and without labels."""

import pytest
import torch

from progan.images import downscale, to_pixels
from reference_networks import (
    CONFIGS,
    IMAGES,
    SCORES,
    SHAPES,
    discriminator,
    double,
    error,
    generator,
    group,
    load,
    lod_critic,
    stage_of,
    synthesize,
    variables,
)

NAMES = ["a_r32", "b_r16_lab"]
LODS = {name: [str(round(float(lod), 3)) for lod in load(f"generator_{name}")["lods"]] for name in NAMES}
EVERY = [(name, lod, fused) for name in NAMES for lod in LODS[name] for fused in (True, False)]


@pytest.mark.parametrize(("name", "lod", "fused"), EVERY)
def test_images_of_g(name: str, lod: str, fused: bool) -> None:
    arrays = load(f"generator_{name}")
    G = generator(name, variables(arrays, fused), fused)
    images = synthesize(G, arrays["latents"], arrays["labels"], float(lod))
    prefix = "fused" if fused else "unfused"
    assert error(images, arrays[f"{prefix}/images_out/lod{lod}"]) < IMAGES
    exact = arrays.get(f"float64_reference/{prefix}/images_out_first2/lod{lod}")
    assert exact is None or error(images[:2], exact) < IMAGES


@pytest.mark.parametrize(("name", "lod", "fused"), EVERY)
def test_scores_and_logits_of_d(name: str, lod: str, fused: bool) -> None:
    arrays = load(f"discriminator_{name}")
    D = discriminator(name, variables(arrays, fused), fused)
    critic = lod_critic(D, SHAPES[name]["resolution"], float(lod))
    prefix, images = "fused" if fused else "unfused", double(arrays["images"])
    for batch, suffix in ((8, ""), (3, "_batch3"), (4, "_batch4")):  # 3: one group of 3, as 4 does not divide it
        expected = arrays.get(f"{prefix}/scores_out{suffix}/lod{lod}")
        assert expected is None or error(critic(images[:batch]).value, expected) < SCORES
    scores = critic(images)
    exact = arrays.get(f"float64_reference/{prefix}/scores_out/lod{lod}")
    assert exact is None or error(scores.value, exact) < SCORES
    logits = arrays.get(f"{prefix}/labels_out/lod{lod}")
    assert (logits is None) == (scores.logits is None)
    assert scores.logits is None or error(scores.logits, logits) < SCORES


def test_every_array_of_the_network_files_is_known() -> None:
    """So that none is overlooked by the `get`s above."""
    known = ("lods", "latents", "labels", "images", "fused/", "unfused/", "float64_reference/fused/")
    kinds = (
        "var",
        "images_out",
        "images_out_first2",
        "scores_out",
        "scores_out_batch3",
        "scores_out_batch4",
        "labels_out",
    )
    for name in NAMES:
        for key in [*load(f"generator_{name}"), *load(f"discriminator_{name}")]:
            assert key.startswith(known)
            assert "/" not in key or any(f"/{kind}/" in key for kind in kinds)
            assert "/lod" not in key or key.rsplit("/lod", 1)[1] in LODS[name]


def test_fused_and_unfused_d_differ_as_the_official_ones_do() -> None:
    arrays = load("discriminator_a_r32")
    scores = [
        discriminator("a_r32", variables(arrays, fused), fused)(double(arrays["images"])).value
        for fused in (True, False)
    ]
    assert (scores[0] - scores[1]).abs().max() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_latents_of_any_length_give_the_same_image_only_without_labels(name: str) -> None:
    """Latents are normalised after the labels are joined to them (scaling z alone changes labelled output)."""
    arrays = load(f"generator_{name}")
    G = generator(name, variables(arrays, fused=True))
    once, twice = (synthesize(G, factor * arrays["latents"], arrays["labels"], 0.0) for factor in (1, 2))
    change = float((once - twice).detach().abs().max())
    assert change > 0.1 if G.label_size else change < 1e-6


class TestNetworkPickle:
    """What the networks of the published layout give: G, D as in `*_a_r32`, Gs of its own."""

    ARRAYS = load("network_pickle")

    @pytest.mark.parametrize(
        ("key", "lod"), [("Gs_images", 0.0), ("Gs_images_lod0.5", 0.5), ("Gs_images_lod1.7", 1.7), ("G_images", 0.0)]
    )
    def test_images(self, key: str, lod: float) -> None:
        own = key.startswith("Gs")
        official = group(self.ARRAYS, "Gs/var/") if own else variables(load("generator_a_r32"), fused=True)
        images = synthesize(generator("a_r32", official), self.ARRAYS["latents"], self.ARRAYS["labels"], lod)
        assert error(images, self.ARRAYS[key]) < IMAGES

    @pytest.mark.parametrize(("key", "shrink"), [("Gs_images_uint8", 1), ("Gs_images_uint8_shrink2", 2)])
    def test_pixels(self, key: str, shrink: int) -> None:
        pixels = to_pixels(downscale(torch.from_numpy(self.ARRAYS["Gs_images"]), shrink))
        difference = (pixels.int() - torch.from_numpy(self.ARRAYS[key]).int()).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 1e-4, "only where a value lies on a half"

    def test_scores(self) -> None:
        D = discriminator("a_r32", variables(load("discriminator_a_r32"), fused=True))
        assert error(D(double(self.ARRAYS["Gs_images"])).value, self.ARRAYS["D_scores_of_Gs_images"]) < SCORES


def test_levels_of_detail() -> None:
    assert stage_of(0.0, 32) == (32, 1)
    assert stage_of(3.0, 32) == (4, 1)
    assert stage_of(1.7, 32) == (16, pytest.approx(0.3))
    assert CONFIGS.keys() == SHAPES.keys()
