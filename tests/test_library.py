"""As a library: in notebooks, threads and programs without a console; any array or list that one has; D, not only G."""

import dataclasses
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import progan
from html_tags import Tags
from progan import models
from progan.config import DcganConfig, GrowingBatchNormConfig, ProGANConfig, RunConfig, ScheduleConfig
from progan.errors import ConfigError, DeviceError, ProganError, SnapshotError
from progan.images import to_images
from progan.models import ImageShape
from progan.snapshot import Critic, Snapshot, SnapshotInfo, of_generator

pytestmark = pytest.mark.usefixtures("traced_once")

MODEL = ProGANConfig(z_dim=8, fmap_base=64, fmap_max=8)
TINY = {
    "fmap_max": 8,
    "fmap_base": 64,
    "z_dim": 8,
    "resolution": 8,
    "batch_size": 8,
    "stable_kimg": 0.05,
    "fade_kimg": 0.05,
    "total_kimg": 0.1,
    "device": "cpu",
    "compile": "off",
    "precision": "fp32",
}


def snapshot(labels: int = 0, kind: str = "class", names: tuple[str, ...] = ()) -> Snapshot:
    shape = ImageShape(16, 3, labels)
    G, D = models.build(MODEL, shape, seed=3)
    names = names or tuple(f"class{i}" for i in range(labels))
    config = RunConfig(model=MODEL, schedule=ScheduleConfig(resolution=16))
    info = SnapshotInfo(config, shape, 16, 1.0, 0, "digits", kind if labels else None, names)
    made = of_generator(G, info, torch.eye(labels) if labels else None)
    made.raw, made.D = models.build(MODEL, shape, seed=4)[0], D
    return made


def critic(model=MODEL, channels: int = 3, resolution: int = 16, alpha: float = 1.0) -> Critic:
    shape = ImageShape(resolution, channels)
    config = RunConfig(model=model, schedule=ScheduleConfig(resolution=resolution, start_resolution=resolution))
    return Critic(models.build(model, shape, 3)[1], SnapshotInfo(config, shape, resolution, alpha, 0, ""))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> progan.Run:
    folder = tmp_path_factory.mktemp("library")
    arrays = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    np.savez(folder / "data.npz", images=arrays, labels=np.arange(40) % 3)
    return progan.train(data=folder / "data.npz", out=folder / "run", labels=True, quiet=True, **TINY)


class TestPublicNames:
    def test_dir_has_all_of_them_before_they_are_used(self):
        code = "import sys, progan; print(*dir(progan)); print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        names, torch_is_there = done.stdout.splitlines()
        assert set(progan.__all__) <= set(names.split())
        assert {"importlib", "Any", "TYPE_CHECKING"}.isdisjoint(names.split()), "what is not public"
        assert torch_is_there == "False"

    def test_they_are_completed(self):
        import rlcompleter

        completer = rlcompleter.Completer({"progan": progan})
        found = [completer.complete("progan.Sn", i) for i in range(2)]
        assert found[0].startswith("progan.Snapshot")
        assert found[1] is None

    def test_what_is_shown_of_an_object(self):
        assert repr(snapshot(3)) == "<Snapshot: 16x16 RGB, z_dim 8, 3 labels, cpu>"
        assert repr(critic()) == "<Critic: 16x16, no labels>"

    @pytest.mark.parametrize("kind", [None, "class", "attributes"])
    def test_what_notebooks_show_of_a_generator(self, kind):
        made = snapshot(3 if kind else 0, kind or "class", ("a=1", "a=2", "b=1") if kind == "attributes" else ())
        if kind == "attributes":
            made.label_rows = torch.eye(3)
        with Image.open(BytesIO(made._repr_png_())) as image:
            assert image.size == (8 * 64 + 7, 2 * 64 + 1)
            cell = np.asarray(image.convert("RGB"))[:64:4, :64:4]
        labels = {None: None, "class": [0], "attributes": [""]}[kind]
        first = progan.to_pixels(made.generate(made.latents(0), labels))[0].permute(1, 2, 0).numpy()
        assert np.array_equal(cell, first)

    def test_what_notebooks_show_of_a_run(self, run):
        tags = Tags(run._repr_html_())
        words = " ".join(tags.words)
        assert "finished" in words
        assert "0.104 thousand, up to 8x8" in words
        assert tags.images == 1


WITHOUT_A_CONSOLE = """
import sys, traceback
from pathlib import Path
here = Path(sys.argv[1])
sys.stdout = sys.stderr = sys.stdin = None
try:
    import numpy as np
    import progan
    np.save(here / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8))
    progan.prepare(here / "images.npy", here / "data", progan.PrepareConfig(resolution=16))
    run = progan.train(data=here / "data", out=here / "run", **{options})
    progan.evaluate(run.snapshot(), progan.Dataset.open(here / "data"), ["swd"], num=16)
    from progan.cli import main
    assert main(["sample", str(here / "run"), "--num", "4"]) == 0
    assert main(["sample", str(here / "nowhere")]) == 2
    assert main(["report", str(here / "run")]) == 0
    (here / "outcome").write_text("done")
except BaseException:
    (here / "outcome").write_text(traceback.format_exc())
"""


@pytest.mark.slow
def test_without_a_console(tmp_path):
    """Under pythonw, and in a service, there are no streams."""
    code = WITHOUT_A_CONSOLE.replace(
        "{options}", repr(TINY | {"resolution": 16, "start_resolution": 16, "metrics_kimg": 0.05})
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "outcome").read_text() == "done"
    assert (tmp_path / "run" / "generated.png").exists()


def test_numbers_of_numpy_as_options(run, tmp_path):
    """They come from loops over np.arange and from files."""
    options = {name: np.array(value)[()] for name, value in TINY.items()}
    again = progan.train(data=run.folder.read()[1].path, out=tmp_path, labels=np.bool_(True), quiet=True, **options)
    mine, theirs = (progan.load(each.path).G.state_dict() for each in (again, run))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(double, id="float64", marks=pytest.mark.slow),
        pytest.param(torch.no_grad, id="no_grad", marks=pytest.mark.slow),
        pytest.param(torch.inference_mode, id="inference_mode"),
        pytest.param(lambda: torch.autocast("cpu", torch.bfloat16), id="autocast", marks=pytest.mark.slow),
    ],
)
def test_modes_of_the_program_change_nothing(run, tmp_path, mode):
    with mode():
        states = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        again = progan.train(data=run.folder.read()[1].path, out=tmp_path, labels=True, quiet=True, **TINY)
        mine = progan.load(again.path)
        assert states == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
    theirs = progan.load(run.path).G.state_dict()
    assert all(torch.equal(mine.G.state_dict()[name], theirs[name]) for name in theirs)
    assert not next(mine.G.parameters()).is_inference()


def test_paths_and_numbers_of_any_kind(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progan.load(run.path).save("a.safetensors")
    assert progan.load("a.safetensors").digest == progan.load(run.path).digest
    data = run.folder.read()[1].path
    options = {"out": "copied", "copy_to": tmp_path / "copies", "until": np.int64(20), "labels": True, "quiet": True}
    assert not progan.train(data=data, **options, **TINY).finished
    assert (tmp_path / "copies" / "config.json").exists()
    for wrong in ({"minutes": True}, {"minutes": []}, {"until": "soon"}, {"out": 3}, {"out": ""}, {"copy_to": 3}):
        with pytest.raises(ProganError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
            progan.train(data=data, quiet=True, **{"out": "wrong", **TINY, **wrong})
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"channels": "gray"}, {"crop": "centre"}, {"strict": "no"}, {"labels": None}, {"background": (0, 0, 0)},
        {"max_images": "many"}, {"max_images": 2.5}, {"seed": []},
    ],
    ids=str,
)  # fmt: skip
def test_settings_of_a_preparation_that_are_none(given):
    with pytest.raises(ProganError, match=f"--{next(iter(given)).replace('_', '-')} must be"):
        progan.PrepareConfig(**given)


def test_settings_of_a_preparation_may_be_numbers_of_numpy(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((4, 8, 8, 3), np.uint8))
    config = progan.PrepareConfig(resolution=np.int64(8), max_images=np.int64(2), seed="1", crop="center")
    assert config == progan.PrepareConfig(resolution=8, max_images=2, seed=1)
    assert progan.prepare(tmp_path / "images.npy", tmp_path / "data", config).count == 2


def test_a_folder_of_images_is_no_dataset_to_measure_with(tmp_path):
    (tmp_path / "pics").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pics" / "a.png")
    with pytest.raises(ProganError, match=r"pics is no prepared dataset. Run: progan prepare .*pics OUT, and name OUT"):
        progan.evaluate(snapshot(), tmp_path / "pics")


def test_arguments_of_other_kinds(run, tmp_path):
    for call, message in (
        (lambda: progan.evaluate(str(run.path), run.folder.read()[1].path), "give a generator, such as progan.load"),
        (lambda: progan.evaluate(snapshot(), run.folder.read()[1].path, num="x"), "--num must be a whole number"),
        (lambda: progan.load(run.path, resolution="x"), "--resolution must be a whole number"),
        (lambda: progan.prepare("avatars:8", tmp_path / "a", {"resolution": 8}), "a progan.PrepareConfig; got"),
    ):
        with pytest.raises(ProganError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert progan.load(run.path, resolution="8").resolution == 8


def test_a_folder_to_evaluate_with(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), np.uint8))
    progan.prepare(tmp_path / "images.npy", tmp_path / "data", progan.PrepareConfig(resolution=16))
    values = progan.evaluate(snapshot(), tmp_path / "data", "swd", num=16)
    assert values == progan.evaluate(snapshot(), progan.Dataset.open(tmp_path / "data"), ["swd"], num=16)
    with pytest.raises(ProganError, match=r"images\.npy is no prepared dataset"):
        progan.evaluate(snapshot(), tmp_path / "images.npy")


@pytest.mark.slow
def test_in_threads(run, tmp_path):
    """Where no handlers of signals can be installed, and several runs at once: the same bits."""
    found = []
    data = run.folder.read()[1].path

    def train(name: str) -> None:
        found.append(progan.train(data=data, out=tmp_path / name, labels=True, quiet=True, **TINY))

    threads = [threading.Thread(target=train, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.finished for each in found] == [True] * 4
    expected = progan.load(run.path).G.state_dict()
    for each in found:
        mine = progan.load(each.path).G.state_dict()
        assert all(torch.equal(mine[name], expected[name]) for name in expected)


def test_networks_in_several_threads(tmp_path):
    """Networks begin with the same weights, although threads share PyTorch's random numbers."""
    found = {}

    def build(seed: int) -> None:
        found[seed] = [models.build(MODEL, ImageShape(16, 3), seed)[0].state_dict() for _ in range(5)]

    threads = [threading.Thread(target=build, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        torch.rand(1000)  # as whoever works on in the notebook
    for seed, states in found.items():
        expected = models.build(MODEL, ImageShape(16, 3), seed)[0].state_dict()
        assert all(torch.equal(state[name], expected[name]) for state in states for name in expected)


def test_in_a_notebook(run, tmp_path, monkeypatch):
    """Its stream is no terminal: whole lines, and no bar that is drawn over."""

    class OutStream:  # as ipykernel's, as far as it is used
        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return False

    stream = OutStream()
    monkeypatch.setattr(sys, "stderr", stream)
    progan.train(data=run.folder.read()[1].path, out=tmp_path, **TINY)
    lines = stream.text.splitlines()
    assert sum(line.count(" left  ") for line in lines) >= 2  # a line each tick
    assert "\r" not in stream.text
    assert "\x1b" not in stream.text


class TestLatents:
    z = np.random.default_rng(1).normal(size=(3, 8))

    @pytest.mark.parametrize(
        "given",
        [
            z,
            z.tolist(),
            tuple(map(tuple, z)),
            list(z),
            torch.from_numpy(z),
            list(torch.from_numpy(z)),
            torch.from_numpy(z).float().requires_grad_(),
            z.astype(">f8"),
            z[::-1][::-1],
            np.asfortranarray(z),
        ],
    )
    def test_any_container_of_them(self, given):
        made = snapshot()
        expected = made.generate(torch.from_numpy(self.z).float())
        images = made.generate(given)
        assert images.dtype == torch.float32
        assert torch.equal(images, expected)

    def test_one_and_none(self):
        made = snapshot()
        one = made.generate(made.latents([7]))
        for given in (made.latents(7)[0], made.latents(7)[0].tolist(), made.latents(np.int64(7))):
            assert torch.equal(made.generate(given), one)
        assert made.generate([]).shape == (0, 3, 16, 16)
        assert made.generate([0] * 8).shape == (1, 3, 16, 16)

    def test_16_bits_stay(self):
        made = snapshot()
        assert made.generate(made.latents([1]).bfloat16()).dtype == torch.float32

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (np.zeros((3, 9)), r"latents are \[N, 8\], or \[8\] for one; got \[3, 9\]"),
            (np.zeros((2, 3, 8)), r"got \[2, 3, 8\]"),
            (0.5, r"got \[\]"),
            ([[1.0, 2.0], [3.0]], "must be numbers of one shape"),
            (["a"] * 8, "must be numbers of one shape"),
            (None, "must be numbers of one shape"),
            (np.full(8, np.nan), "must be finite"),
            (np.zeros(8, complex), "must be real"),
        ],
    )
    def test_mistakes(self, given, message):
        with pytest.raises(SnapshotError, match=message) as caught:
            snapshot().generate(given)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"truncation": "x"}, "truncation must be a number"),
            ({"truncation": math.nan}, "truncation must be a number"),
            ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
            ({"batch_size": 1.5}, "batch_size must be a whole number of at least 1"),
            ({"resolution": 0}, "makes 16x16, not 0x0"),
            ({"resolution": "8"}, "makes 16x16, not 8x8"),
            ({"resolution": 12}, "makes 16x16, not 12x12"),
        ],
    )
    def test_other_arguments(self, options, message):
        with pytest.raises(SnapshotError, match=message):
            snapshot().generate([0] * 8, **options)

    def test_numbers_of_numpy(self):
        images = snapshot().generate([0] * 8, None, np.float32(0.5), np.int64(8), np.int64(1))
        assert images.shape == (1, 3, 8, 8)

    @pytest.mark.parametrize("seeds", [[-1], [2**64], [0.5], ["7"], [None], 1.0])
    def test_what_is_no_seed(self, seeds):
        with pytest.raises(SnapshotError, match="seeds are whole numbers"):
            snapshot().latents(seeds)

    def test_what_is_no_device(self):
        for each in (snapshot(), critic()):
            with pytest.raises(DeviceError, match="cannot be used here"):
                each.to("vulkan:7")


class TestLabels:
    @pytest.mark.parametrize(
        "given",
        [
            [1, 1],
            (1, 1),
            1,
            np.int64(1),
            np.array([1, 1]),
            np.array([1, 1], np.uint16),
            torch.tensor([1, 1]),
            torch.tensor(1),
            "class1",
            ["class1"],
            ["class1", 1],
            np.array(["class1", "class1"]),
            [[0, 1, 0], [0, 1, 0]],
            [0.0, 1.0, 0.0],
            np.array([0, 1, 0]),
            np.eye(3)[[1, 1]],
            torch.eye(3)[[1, 1]].bool(),
            torch.eye(3, dtype=torch.float64)[[1]],
        ],
    )
    def test_of_classes(self, given):
        made = snapshot(3)
        z = made.latents([0, 1])
        expected = made.generate(z, torch.eye(3)[[1, 1]])
        assert torch.equal(made.generate(z, given), expected)
        assert not torch.equal(made.generate(z, 2), expected)

    def test_as_many_images_as_classes(self):
        """Then numbers are numbers, and no row."""
        made = snapshot(3)
        z = made.latents([0, 1, 2])
        assert torch.equal(made.generate(z, [0, 1, 0]), made.generate(z, torch.eye(3)[[0, 1, 0]]))

    def test_numbers_are_places_whatever_the_names(self):
        made = snapshot(3, names=("7", "0", "1"))
        z = made.latents([0])
        assert torch.equal(made.generate(z, 0), made.generate(z, "7"))

    def test_of_attributes(self):
        made = snapshot(3, "attributes", ("hat=cap", "hat=none", "beard=full"))
        z, row = made.latents([0, 1]), [0, 1, 1]
        made.label_rows = torch.zeros(1, 3)
        expected = made.generate(z, torch.tensor([row, row]))
        for given in (row, [row, row], "hat=none,beard=full", ["hat=none,beard=full"] * 2, np.array(row, bool)):
            assert torch.equal(made.generate(z, given), expected)
        one = made.generate(z, "hat=none")
        for number in (1, np.int64(1), torch.tensor(1)):
            assert torch.equal(made.generate(z, number), one)

    @pytest.mark.parametrize("label", [None, b"a", [0], torch.tensor([0, 1]), 1.5])
    def test_what_is_no_label(self, label):
        with pytest.raises(SnapshotError, match="there is no label"):
            snapshot(3).labels([label])

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([0, 1, 2, 0], "4 labels for 2 latents"),
            (["class1"] * 3, "3 labels for 2 latents"),
            (3, "numbers from 0 to 2"),
            ([-1, 0], "numbers from 0 to 2"),
            ("cat", "knows class0, class1, class2"),
            (np.eye(4)[[1, 1]], r"rows \[2, 3\]; got \[2, 4\]"),
            (np.eye(3), r"rows \[2, 3\]; got \[3, 3\]"),
            ([[0, np.nan, 0]], r"rows \[2, 3\]"),
            ([[0, 1], [1]], "must be numbers of one shape"),
        ],
    )
    def test_mistakes(self, given, message):
        made = snapshot(3)
        with pytest.raises(SnapshotError, match=message) as caught:
            made.generate(made.latents([0, 1]), given)
        assert "\n" not in str(caught.value)

    def test_a_word_is_one_label(self):
        assert snapshot(3).labels("class1").tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": 8.0}, "not 8.0x8.0"),
        ({"truncation": np.array([0.5, 1.0])}, "truncation must be"),
        ({"batch_size": 2.5}, "batch_size"),
    ],
)
def test_numbers_of_the_wrong_kind(wrong, message):
    made = snapshot()
    with pytest.raises(SnapshotError, match=message):
        made.generate(made.latents([0]), **wrong)


@pytest.mark.parametrize("size", [-1, 0, 2.5, "4"])
def test_a_critic_takes_whole_batches(size):
    for call in (critic(), critic().features):
        with pytest.raises(SnapshotError, match="batch_size"):
            call(np.zeros((1, 16, 16, 3), np.uint8), batch_size=size)


def test_what_names_no_run_and_no_preset():
    for wrong in (3, None, b"x"):
        with pytest.raises(ConfigError, match="must be text"):
            progan.load(wrong)
    for wrong in (3, ["x"], Path("quickstart")):
        with pytest.raises(ConfigError, match="there is no preset"):
            progan.train(wrong)
    with pytest.raises(ConfigError, match="total-kimg"):
        progan.train(total_kimg=np.array([1.0, 2.0]))


def test_pixels_and_images_of_arrays():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(progan.to_pixels(progan.to_images(pixels)), pixels)
    assert np.array_equal(progan.to_pixels(pixels / 127.5 - 1), pixels)


class TestDiscriminator:
    pixels = np.random.default_rng(2).integers(0, 256, (8, 16, 16, 3), np.uint8)

    @pytest.mark.parametrize(
        "given",
        [
            pixels,
            pixels.transpose(0, 3, 1, 2),
            pixels.tolist(),
            list(pixels),
            pixels.astype(np.int64),
            pixels.astype(np.uint16),
            torch.from_numpy(pixels),
            list(torch.from_numpy(pixels)),
            pixels / 127.5 - 1,
            (pixels / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32),
            torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2),
        ],
    )
    def test_any_container_of_images(self, given):
        D = critic()
        images = to_images(torch.from_numpy(self.pixels).permute(0, 3, 1, 2))
        expected = D.D(images).value
        assert torch.allclose(D(given).value, expected, atol=1e-6)
        assert D(given).value.dtype == torch.float32
        assert D(given).value.std() > 0

    def test_grey_and_single_images(self):
        D, pixels = critic(channels=1), self.pixels[..., 0]
        expected = D(pixels[:, None]).value
        assert torch.equal(D(pixels).value, expected)
        assert torch.equal(D(pixels[..., None]).value, expected)
        one = D(pixels[:1, None]).value
        for given in (pixels[0], pixels[0, None], pixels[0, ..., None]):
            assert torch.allclose(D(given).value, one, atol=1e-6)

    def test_features_are_what_scores_are_made_of(self):
        D = critic(alpha=0.5)
        features = D.features(self.pixels)
        shapes = {name: tuple(x.shape) for name, x in features.items()}
        assert shapes == {"16x16": (8, 8, 8, 8), "8x8": (8, 8, 4, 4), "4x4": (8, 8, 4, 4), "last": (8, 8)}
        assert torch.equal(D.D.score(features["last"]).value, D(self.pixels).value)
        images = to_images(torch.from_numpy(self.pixels).permute(0, 3, 1, 2).contiguous())
        assert torch.equal(D(self.pixels).value, D.D(images, 0.5).value)
        assert not torch.equal(D(self.pixels).value, critic()(self.pixels).value), "alpha makes a difference"

    @pytest.mark.parametrize("model", [DcganConfig(width=4), GrowingBatchNormConfig(fmap_base=64, fmap_max=8)])
    def test_of_other_models(self, model):
        D = critic(model)
        features = D.features(self.pixels)
        assert list(features) == ["16x16", "8x8", "last"]
        assert torch.equal(features["8x8"], features["last"])
        assert torch.equal(D.D.score(features["last"]).value, D(self.pixels).value)

    def test_batches_are_whole_groups(self):
        D = critic()
        assert torch.allclose(D(self.pixels, batch_size=4).value[:4], D(self.pixels[:4]).value, atol=1e-6)
        assert not torch.allclose(D(self.pixels, batch_size=1).value, D(self.pixels).value, atol=1e-6)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (pixels[:, :8], r"judges images \[N, 3, 16, 16\] or \[N, 16, 16, 3\]; got \[8, 8, 16, 3\]"),
            (pixels[..., :1], "judges images"),
            (pixels[:0], "judges images"),
            ([], "judges images"),
            (pixels.astype(np.int64) - 1, "pixels from 0 to 255; got -1"),
            (pixels.astype(float), "pixels 0 … 255 uint8; got 0 … 255"),
            (np.full((1, 16, 16, 3), np.nan), "about -1 … 1"),
            ("faces/", "must be numbers of one shape"),
        ],
    )
    def test_mistakes(self, given, message):
        with pytest.raises(SnapshotError, match=message) as caught:
            critic()(given)
        assert "\n" not in str(caught.value)


class TestLoad:
    def test_networks_of_a_run(self, run):
        G, D = progan.load(run.path, network="G"), progan.load(run.path, network="D")
        averaged = progan.load(run.path)
        assert (G.resolution, D.resolution) == (8, 8)
        assert G.info.label_names == averaged.info.label_names == ("0", "1", "2")
        z = G.latents(range(4))
        assert not torch.equal(G.generate(z, 1), averaged.generate(z, 1))
        scores = D(progan.to_pixels(averaged.generate(z, 1)))
        assert scores.value.shape == (4,)
        assert scores.logits.shape == (4, 3)
        assert progan.load(run.path, 8, network="D").resolution == 8

    def test_they_are_those_of_the_state(self, run):
        from progan.training.state import StateFolder, parse

        path, _ = StateFolder(run.folder.state).newest()
        _, tensors = parse(path.read_bytes())
        for name in ("G", "D"):
            network = progan.load(run.path, network=name)
            own = (network.D if name == "D" else network.G).state_dict()
            assert all(torch.equal(own[key], tensors[f"{name}.{key}"]) for key in own)

    def test_networks_of_an_import(self, tmp_path):
        """Of the authors' pickle and of the snapshot made of it."""
        from official_pickles import SMALL
        from progan.importers import import_official

        import_official(SMALL).save(tmp_path / "a.safetensors")
        z = progan.load(SMALL).latents([1, 2])
        images = {}
        for name in ("Gs", "G"):
            one, other = (progan.load(path, network=name).generate(z) for path in (SMALL, tmp_path / "a.safetensors"))
            assert torch.equal(one, other)
            images[name] = one
        assert not torch.equal(images["Gs"], images["G"])
        one, other = (progan.load(path, network="D")(images["G"]) for path in (SMALL, tmp_path / "a.safetensors"))
        assert torch.equal(one.value, other.value)

    def test_of_a_port(self):
        folder = Path(__file__).parent / "reference" / "ports"
        with np.load(folder / "aka_rgb16.npz") as arrays:
            scores = progan.load(folder / "aka_rgb16.bin", network="D")(arrays["shadow_images_depth4"][:4]).value
            assert np.abs(scores.numpy() - arrays["D_of_shadow_images"]).max() < 5e-5
        assert progan.load(folder / "aka_rgb16.bin", 8).resolution == 8

    def test_a_snapshot_that_begins_like_a_pickle_is_a_snapshot(self, tmp_path):
        """The first byte of a file is the lowest one of its header's length."""
        made = snapshot(3)
        for length in range(0, 256, 8):
            made.info = dataclasses.replace(made.info, licence="x" * length)
            made.save(tmp_path / "a.safetensors")
            if (tmp_path / "a.safetensors").read_bytes()[:1] == b"\x80":
                assert torch.equal(progan.load(tmp_path / "a.safetensors").mean, made.mean)
                return
        raise AssertionError("no header has that length")

    def test_a_snapshot_keeps_them(self, tmp_path):
        made = snapshot(3)
        made.save(tmp_path / "a.safetensors")
        loaded = progan.load(tmp_path / "a.safetensors")
        assert torch.equal(loaded.raw.dense.weight, made.raw.dense.weight)
        assert torch.equal(loaded.D.conv.weight, made.D.conv.weight)
        assert progan.load(tmp_path / "a.safetensors", network="G").generate(made.latents([1]), 2).shape[0] == 1
        made.raw = made.D = None
        made.save(tmp_path / "b.safetensors")
        assert b'"version":"1"' in (tmp_path / "b.safetensors").read_bytes(), "as older versions read it"
        assert b'"version":"2"' in (tmp_path / "a.safetensors").read_bytes()

    def test_what_is_not_there(self, run, tmp_path):
        for path, options, message in (
            (run.folder.snapshot(), {"network": "D"}, "holds no discriminator"),
            (run.folder.snapshot(), {"network": "G"}, "holds no trained generator"),
            (run.path, {"network": "E"}, "no network 'E'"),
            (run.path, {"network": "D", "resolution": 4}, "is at 8x8: its D is not that of 4x4"),
            (tmp_path / "nowhere", {"network": "D"}, "does not exist"),
            (tmp_path, {"network": "D"}, "not a run folder"),
        ):
            with pytest.raises(ProganError, match=message) as caught:
                progan.load(path, **options)
            assert "\n" not in str(caught.value)
