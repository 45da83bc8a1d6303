"""Augmentation: known answers of every transformation, gradients, and runs that are exact with it."""

import json
import math
from dataclasses import replace

import pytest
import torch

import progan
from progan.config import DatasetConfig, PrepareConfig, ProGANConfig, RunConfig
from progan.data.prepare import prepare
from progan.errors import ConfigError
from progan.models import ImageShape
from progan.options import override
from progan.randomness import Rng
from progan.schedule import Stage
from progan.training import augment, loop
from progan.training.accelerate.traced import Traced, missing
from progan.training.augment import Ada, DiffAugment, adapt, real_sign
from progan.training.preflight import memory
from progan.training.setup import RunSetup
from progan.training.state import StateFolder, TrainingState
from progan.training.step import Batch, Eager, d_loss, g_loss
from steps import CPU, in_dtype

ALWAYS, NEVER = torch.tensor(1.0), torch.tensor(0.0)
NAMES = (
    "flip flip_by quarters quarters_by whole right down scale scale_by angle angle_by stretch stretch_by part "
    "part_right part_down brightness brightness_by contrast contrast_by inverted inverted_by hue hue_by "
    "saturation saturation_by"
).split()
"""What each of ADA's numbers decides."""
DIFF = "brightness saturation contrast right down left top".split()


def smooth(size: int = 16, channels: int = 1, n: int = 1) -> torch.Tensor:
    """A blob right of and above the middle, float64 [n, channels, size, size]."""
    at = torch.linspace(-1, 1, size, dtype=torch.float64)
    blob = torch.exp(-8 * ((at - 0.3) ** 2 + (at[:, None] + 0.2) ** 2))
    return blob.expand(n, channels, size, size).clone()


def ada(images: torch.Tensor, **numbers: float) -> torch.Tensor:
    """Images changed by the named transformations alone: `happens` is 0 where named, 1 (never) elsewhere."""
    uniform = torch.ones(len(images), Ada.numbers, dtype=images.dtype)
    for name, value in numbers.items():
        uniform[:, NAMES.index(name)] = value
    return Ada()(images, uniform, torch.tensor(0.5))


def uniform_of(value: float, std: float) -> float:
    """Uniform number that becomes `value` of N(0, std)."""
    return 0.5 * (1 + math.erf(value / std / math.sqrt(2)))


def test_ada_changes_no_bit_of_an_image_when_nothing_happens():
    for channels, size, dtype in ((1, 4, torch.float32), (3, 8, torch.float32), (3, 16, torch.float64)):
        images = torch.randn(5, channels, size, size, dtype=dtype)
        assert torch.equal(Ada()(images, torch.rand(5, Ada.numbers), NEVER), images)
        assert not torch.equal(Ada()(images, torch.rand(5, Ada.numbers), ALWAYS), images)


@pytest.mark.parametrize("size", [4, 8, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [DiffAugment(), Ada()])
def test_an_image_is_changed_by_its_own_numbers_and_keeps_shape_and_dtype(kind, channels, size):
    images, uniform = torch.randn(6, channels, size, size), torch.rand(6, kind.numbers)
    together = kind(images, uniform, torch.tensor(0.7))
    assert together.shape == images.shape
    assert together.dtype == images.dtype
    assert together.isfinite().all()
    for i in range(6):
        alone = kind(images[i : i + 1], uniform[i : i + 1], torch.tensor(0.7))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-5, atol=1e-5)


def test_ada_mirrors_and_turns_by_quarters():
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(ada(images, flip=0, flip_by=0.2), images.flip(3), atol=1e-12)
    assert torch.equal(ada(images, flip=0, flip_by=0.7), images)
    for k in range(4):
        turned = ada(images, quarters=0, quarters_by=k / 4 + 0.1)
        assert torch.equal(turned, torch.rot90(images, -k, (2, 3)))


def test_ada_shifts_by_whole_pixels_and_reflects():
    images = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    moved = ada(images, whole=0, right=1.0, down=0.0)  # +2 and -2 of 16 / 8
    assert torch.allclose(moved[..., :-2, 2:], images[..., 2:, :-2], atol=1e-12)
    assert torch.allclose(moved[..., :-2, :2], images[..., 2:, 1:3].flip(3), atol=1e-12)


def test_ada_shifts_by_parts_of_pixels():
    images = smooth(32)
    moved = ada(images, part=0, part_right=uniform_of(1.5, 4), part_down=0.5)
    expected = (images[..., 1:-1] + images[..., :-2]) / 2  # by one and a half
    assert torch.allclose(moved[..., 2:], expected, atol=1e-9)


def test_ada_scales_and_stretches_about_the_middle():
    at = torch.linspace(-1, 1, 64, dtype=torch.float64)

    def wide(x: float, y: float) -> torch.Tensor:
        return torch.exp(-8 * ((at / x) ** 2 + (at[:, None] / y) ** 2))[None, None]

    larger = ada(wide(1, 1), scale=0, scale_by=uniform_of(0.3, 0.2))
    assert torch.allclose(larger, wide(2**0.3, 2**0.3), atol=0.02)
    smaller = ada(wide(1, 1), scale=0, scale_by=uniform_of(-0.3, 0.2))
    assert torch.allclose(smaller, wide(2**-0.3, 2**-0.3), atol=0.02)
    stretched = ada(wide(1, 1), stretch=0, stretch_by=uniform_of(0.3, 0.2))
    assert torch.allclose(stretched, wide(2**0.3, 2**-0.3), atol=0.02)


@pytest.mark.parametrize("degrees", [-170, -91, -45.1, -44.9, -20, 10, 44.9, 45.1, 100, 134, 179])
def test_ada_turns_by_any_angle(degrees):
    size = 64
    at = torch.linspace(-1, 1, size, dtype=torch.float64)
    x, y, angle = at.expand(size, size), at[:, None].expand(size, size), math.radians(degrees)
    before = torch.exp(-20 * ((x - 0.4) ** 2 + (y + 0.1) ** 2))[None, None]
    turned_x, turned_y = 0.4 * math.cos(angle) + 0.1 * math.sin(angle), 0.4 * math.sin(angle) - 0.1 * math.cos(angle)
    after = torch.exp(-20 * ((x - turned_x) ** 2 + (y - turned_y) ** 2))[None, None]
    turned = ada(before, angle=0, angle_by=(degrees / 90 + 2) / 4)
    inside = (x**2 + y**2 < 0.9).expand_as(before)  # beyond it reflections turn in
    assert torch.allclose(turned[inside], after[inside], atol=0.03)


def test_ada_changes_colours_about_luma():
    images = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    luma = images.mean(1, keepdim=True)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(ada(images, brightness=0, brightness_by=uniform_of(0.3, 0.2)), images + 0.3, **close)
    torch.testing.assert_close(ada(images, contrast=0, contrast_by=uniform_of(1, 0.5)), images * 2, **close)
    torch.testing.assert_close(ada(images, inverted=0, inverted_by=0.1), images - 2 * luma, **close)
    assert torch.equal(ada(images, inverted=0, inverted_by=0.9), images)
    more = ada(images, saturation=0, saturation_by=uniform_of(1, 1))
    torch.testing.assert_close(more, luma + 2 * (images - luma), **close)
    # A third of a full turn about the axis of greys takes red to green to blue to red.
    third = ada(images, hue=0, hue_by=(1 + 2 / 3) / 2)
    torch.testing.assert_close(third, images[:, [2, 0, 1]], **close)


def test_ada_leaves_out_what_grey_images_have_not():
    images = torch.randn(2, 1, 4, 4)
    for name in ("inverted", "hue", "saturation"):
        assert torch.equal(ada(images, **{name: 0, f"{name}_by": 0.1}), images)
    assert torch.allclose(ada(images, brightness=0, brightness_by=uniform_of(0.3, 0.2)), images + 0.3, atol=1e-5)


def diff(images: torch.Tensor, **numbers: float) -> torch.Tensor:
    """DiffAugment by these numbers; the others change nothing, but for the square, which is put into a corner."""
    neutral = {
        "brightness": 0.5,
        "saturation": 0.5,
        "contrast": 0.5,
        "right": 0.5,
        "down": 0.5,
        "left": 0.0,
        "top": 0.0,
    }
    row = torch.tensor([{**neutral, **numbers}[name] for name in DIFF], dtype=images.dtype)
    return DiffAugment()(images, row.expand(len(images), -1), NEVER)


def test_diffaugment_changes_colours_as_the_authors_code_does():
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    seen = (slice(None), slice(None), slice(2, None), slice(2, None))  # a quarter of the square is in the corner
    mean = images.mean((1, 2, 3), keepdim=True)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(diff(images)[seen], images[seen])
    torch.testing.assert_close(diff(images, brightness=0.9)[seen], (images + 0.4)[seen])
    torch.testing.assert_close(diff(images, saturation=0.9)[seen], (1.8 * (images - grey) + grey)[seen])
    torch.testing.assert_close(diff(images, contrast=0.9)[seen], (1.4 * (images - mean) + mean)[seen])
    torch.testing.assert_close(diff(images[:, :1], saturation=0.9)[seen], images[:, :1][seen])


@pytest.mark.parametrize(("size", "most", "side"), [(4, 1, 2), (8, 1, 4), (32, 4, 16)])
def test_diffaugment_shifts_and_cuts_by_ratio(size, most, side):
    images = torch.ones(1, 1, size, size)
    moved = diff(images, right=0.999, down=0.0)
    held = torch.ones(size, size)
    held[:, :most], held[size - most :] = 0, 0
    held[: side // 2, : side // 2] = 0
    assert torch.equal(moved[0, 0], held)
    middle = diff(images, left=0.5, top=0.5)
    assert float((middle == 0).sum()) == side**2
    corner = diff(images, left=0.999, top=0.999)
    assert float((corner == 0).sum()) == (side // 2) ** 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [DiffAugment(), Ada()])
def test_gradients_are_those_of_finite_differences(kind, channels):
    images = torch.randn(4, channels, 4, 4, dtype=torch.float64, requires_grad=True)
    uniform = torch.rand(4, kind.numbers, dtype=torch.float64)
    uniform[0] = uniform[0] / 2  # all of ADA's happen
    assert torch.autograd.gradcheck(lambda x: kind(x, uniform, torch.tensor(0.6)), (images,))


def test_the_sign_of_reals_is_counted_from_where_a_loss_separates():
    real, fake = torch.tensor([3.0, 2.0, 1.0, -1.0]), torch.tensor([-2.0, -2.0, 1.5, 0.0])
    assert float(real_sign(real, fake, 0.0)) == 0.5
    assert float(real_sign(real, fake, 1.5)) == 0.0
    assert float(real_sign(real + 100, fake + 100, None)) == 0.0
    boundaries = {"nonsaturating": 0, "minimax": 0, "hinge": 0, "lsgan": 0.5, "wgan-gp": None, "relativistic": None}
    for name, boundary in boundaries.items():
        assert override(RunConfig(), {"loss": name}).loss.boundary == boundary


def test_p_rises_and_falls_with_the_sign_and_stays_in_bounds():
    config = DatasetConfig(augment="ada", ada_kimg=10)
    assert adapt(0.2, 0.7, 1000, config) == pytest.approx(0.3)
    assert adapt(0.2, 0.5, 1000, config) == pytest.approx(0.1)
    assert adapt(0.05, -1.0, 1000, config) == 0.0
    assert adapt(0.75, 1.0, 1000, config) == augment.MOST_P
    assert adapt(0.2, math.nan, 1000, config) == 0.2
    for wrong in ({"ada_kimg": 0}, {"ada_target": 1.0}):
        with pytest.raises(ConfigError):
            DatasetConfig(**wrong)


LOSSES = {
    "wgan-gp": {},
    "relativistic": {},
    "nonsaturating": {"r1_weight": 1.0},
    "hinge": {},
    "lsgan": {"penalty_every": 1},
    "lazy": {"loss": "wgan-gp", "penalty_every": 2},
}


def made(name: str, kind: str, dtype: torch.dtype = torch.float64, channels: int = 3) -> tuple[RunSetup, TrainingState]:
    """Setup and networks of 8x8 images."""
    changes = {"loss": name, "augment": kind, "resolution": 8, **LOSSES[name]}
    config = override(RunConfig(model=ProGANConfig(z_dim=8, fmap_max=8, fmap_base=64)), changes)
    setup = RunSetup(config, ImageShape(8, channels), in_dtype(dtype))
    state = TrainingState.new(setup)
    for network in (state.G, state.D):
        network.to(dtype if dtype == torch.float64 else torch.float32)
    return setup, state


@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_and_penalty_sees_augmented_images_only(name, kind):
    """The same terms as from a loss that is handed images augmented beforehand, and G's gradient passes through."""
    setup, state = made(name, kind)
    loss, augmentation = setup.loss, setup.augmentation
    reals, p = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor(0.6)
    batch = Batch(4, reals, None, 8, 1.0, torch.float64, p)
    terms = d_loss(state.G, state.D, loss, batch, Rng(0, 0, "D"), "whole", augmentation)
    draws = Rng(0, 0, "D")
    with torch.no_grad():
        fakes = state.G(draws.normal(4, 8).double(), None, 8, 1.0)
    shown = [augmentation(each, draws.uniform(4, augmentation.numbers), p) for each in (reals, fakes.double())]
    assert not torch.equal(shown[0], reals)
    expected = loss.d_terms(state.D, shown[0], shown[1], None, draws)
    assert terms.keys() == expected.keys() | {"real_sign"}
    for key, term in expected.items():
        assert term.item() == pytest.approx(terms[key].item(), rel=1e-9), key
    assert not terms["real_sign"].requires_grad
    apart = d_loss(state.G, state.D, loss, batch, Rng(0, 0, "D"), "penalty", augmentation)
    penalties = {key: term for key, term in expected.items() if key in apart}
    for key, term in penalties.items():
        assert term.item() == pytest.approx(apart[key].item(), rel=1e-9), key

    g_batch = batch if loss.config.wants_reals else batch._replace(reals=None)
    g_terms = g_loss(state.G, state.D, loss, g_batch, Rng(0, 0, "G"), augmentation)
    gradients = torch.autograd.grad(sum(g_terms.values()), list(state.G.to_rgb["8"].parameters()))
    draws = Rng(0, 0, "G")
    fakes = state.G(draws.normal(4, 8).double(), None, 8, 1.0)
    shown = [augmentation(fakes, draws.uniform(4, augmentation.numbers), p)]
    seen = augmentation(reals, draws.uniform(4, augmentation.numbers), p) if loss.config.wants_reals else None
    plain = loss.g_terms(state.D, seen, shown[0], None, draws)
    for ours, other in zip(
        gradients, torch.autograd.grad(sum(plain.values()), list(state.G.to_rgb["8"].parameters())), strict=True
    ):
        torch.testing.assert_close(ours, other)
        assert float(other.abs().sum()) > 0


needs_compiler = pytest.mark.skipif(missing(torch.device("cpu")) is not None, reason="no C++ compiler")


@pytest.mark.parametrize(
    ("name", "kind", "kernels"),
    [
        ("wgan-gp", "ada", False),
        ("wgan-gp", "diffaugment", False),
        ("relativistic", "ada", False),
        ("lazy", "ada", False),
        pytest.param("wgan-gp", "ada", True, marks=[needs_compiler, pytest.mark.slow]),
        pytest.param("wgan-gp", "diffaugment", True, marks=[needs_compiler, pytest.mark.slow]),
    ],
)
def test_a_traced_step_is_the_eager_one_for_every_p_of_one_build(name, kind, kernels):
    setup, state = made(name, kind, torch.float32, channels=1)
    traced = Traced(setup, state, Stage(8, "fade", 0.5, 4, 0.0, 0.0), 4, kernels)
    eager = Eager(state.G, state.D, setup.loss, setup.augmentation)
    reals = torch.rand(4, 1, 8, 8) * 2 - 1
    parts = ("scores", "penalty") if setup.config.optimizer.penalty_every > 1 else ("whole",)
    for p in (0.0, 0.3, 0.8):
        batch = Batch(4, reals, None, 8, 0.25, torch.float32, torch.tensor(p))
        g_batch = batch if setup.loss.config.wants_reals else batch._replace(reals=None)
        for part in (*parts, "g"):
            found = []
            for executor in (eager, traced):
                network, draws = (state.G, Rng(3, 1, "G")) if part == "g" else (state.D, Rng(3, 1, "D"))
                scale = torch.ones(()) if part == "penalty" else None
                terms = executor.g(g_batch, draws) if part == "g" else executor.d(batch, draws, scale, part)
                found.append((terms, [parameter.grad for parameter in network.parameters()]))
            (expected, gradients), (ours, others) = found
            assert ours.keys() == expected.keys()
            for key, term in expected.items():
                assert ours[key].item() == pytest.approx(term.item(), rel=1e-5, abs=1e-6), (p, part, key)
            for gradient, other in zip(gradients, others, strict=True):
                assert (gradient is None) == (other is None)
                if gradient is not None:
                    assert float((gradient - other).norm()) <= 3e-5 * float(gradient.norm()) + 1e-7


def test_steps_without_augmentation_draw_and_log_what_they_did_before():
    setup, state = made("wgan-gp", "none")
    assert setup.augmentation is None
    draws = Rng(0, 0, "D")
    batch = Batch(4, torch.zeros(4, 3, 8, 8, dtype=torch.float64), None, 8, 1.0, torch.float64)
    terms = d_loss(state.G, state.D, setup.loss, batch, draws, "whole", None)
    assert terms.keys() == {"real", "fake", "drift", "penalty"}
    expected = Rng(0, 0, "D")
    expected.normal(4, 8)
    expected.uniform(4)
    assert torch.equal(draws.uniform(4), expected.uniform(4))


TINY = {
    "data": "avatars:32",
    "loss": "wgan-gp",
    "resolution": 8,
    "stable_kimg": 0.08,
    "fade_kimg": 0.08,
    "batch_size": 4,
    "tick_kimg": 0.04,
    "fmap_max": 8,
    "z_dim": 8,
    "device": "cpu",
    "compile": "off",
    "quiet": True,
    "ada_kimg": 0.2,
    "ada_target": 0.0,
}


def stats(run: progan.Run) -> list[dict[str, float]]:
    """Lines of its stats.jsonl without times."""
    lines = [json.loads(line) for line in run.folder.stats.read_text().splitlines()]
    return [{key: line[key] for key in ("cur_nimg", "D/real", "D/real_sign", "augment/p")} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.long)])
def test_a_run_with_ada_stopped_and_continued_equals_one_that_was_not(precision, tmp_path, monkeypatch, capsys):
    options = {**TINY, "augment": "ada", "precision": precision}
    whole = progan.train(out=tmp_path / "whole", **{**options, "quiet": False})
    lines = stats(whole)
    assert f"augment/p {lines[-1]['augment/p']:.3g}" in capsys.readouterr().err
    assert len({line["augment/p"] for line in lines}) > 2, "p must have moved"
    assert lines[0]["augment/p"] == 0
    original, calls = loop.train, iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr("progan.run.train_job", lambda job, watching, *_: original(job, watching, stop))

        def stop() -> bool:
            return next(calls) == 23  # in the middle of a tick

        assert not progan.train(out=tmp_path / "run", **options).finished
    run = progan.train(out=tmp_path / "run", **options)
    assert stats(run) == lines
    first, second = (progan.load(each.path).G.state_dict() for each in (whole, run))
    assert all(torch.equal(first[name], second[name]) for name in first)
    newest = max(StateFolder(run.folder.state).positions())
    ours, theirs = ((each.folder.state / f"state-{newest:09d}.safetensors").read_bytes() for each in (run, whole))
    p = [
        json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"] for content in (ours, theirs)
    ]
    assert len({json.loads(each["progress"])["adjustments"]["augment_p"] for each in p}) == 1


@pytest.mark.slow
def test_images_are_shown_and_prepared_without_augmentation(tmp_path):
    """A grid holds what G makes, and grey sets are augmented, too."""
    prepare("avatars:16", tmp_path / "data", PrepareConfig(resolution=8, channels="grey", workers=1))
    options = {**TINY, "data": tmp_path / "data", "augment": "diffaugment", "stable_kimg": 0.02, "fade_kimg": 0.02}
    run = progan.train(out=tmp_path / "run", **options)
    assert run.finished
    lines = [json.loads(line) for line in run.folder.stats.read_text().splitlines()]
    assert all("D/real_sign" in line and "augment/p" not in line for line in lines)
    assert run.folder.read()[0].dataset.augment == "diffaugment"


def test_the_memory_of_augmented_steps_is_rehearsed():
    (plain, _), *augmented = (made("wgan-gp", kind, torch.float32) for kind in ("none", "diffaugment", "ada"))
    without = memory.estimate(replace(plain, numerics=CPU), 8, 64)
    assert all(memory.estimate(replace(setup, numerics=CPU), 8, 64) > without for setup, _ in augmented)
