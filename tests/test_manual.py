"""Every command and snippet of README.md and docs/ is executed as it stands, at a tiny scale, or says why it is not.

The pages lie in a folder that has what they speak of: pictures, downloads, a run for every name of one. Commands are
shortened in two ways only: `progan train` and comparisons get tiny networks and lengths after their own options, and
numbers of pictures and seconds are made small (`SMALLER`).
"""

import gzip
import re
import shlex
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import progan
from progan.cli import main, train
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.sources.named import FOLDER
from progan.metrics import classifier

pytestmark = pytest.mark.usefixtures("traced_once")
ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "data.md": "tests/data/test_data_named.py",
    "extending.md": "tests/test_plugins.py",
    "using.md": "tests/export/test_using.py",
}
"""Pages that another test executes."""
PAGES = [path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if path.name not in ELSEWHERE]

NOT_EXECUTED = {
    r"git clone |python -m venv |pip install |!git clone |sudo apt ": "scripts/release does, in an empty environment",
    r"pytest$|cd |\. ": "the tests themselves, and going there",
    r"source ": "a shell: tests/cli/test_completion.py",
    r"torchrun ": "several processes: tests/training/test_distributed.py",
    r"docker ": "needs a builder of images: tests/submit/test_container.py",
    r"az storage ": "a program of Azure, which needs an account",
    r"python studies/run.py ": "tests/test_studies.py",
    r"touch RUN/stop": "tests/training/test_training.py stops a training by this file",
    r"progan app": "a server: tests/app/test_server.py",
    r"progan export web ": "needs onnxruntime-web: tests/export/test_web.py",
    r"progan export android ": "needs Android's tools: tests/export/test_android.py",
    r"progan .*s3://": "needs a store: test_data_containers.py and test_copies.py have one of moto's",
    r"progan .*--inception-weights": "weights that the user has: tests/metrics/test_evaluate.py has stand-ins",
    r"progan prepare stacked:|progan .* stacked-mnist ": "128,000 images: tests/metrics/test_metrics_modes.py",
    r"progan .*--crop faces": "finds faces in photographs: tests/data/test_data_faces.py",
}
"""Beginnings of lines, and why they are not executed here or where they are."""

TRAIN = shlex.split(
    "--resolution 16 --start-resolution 16 --stable-kimg 0.08 --total-kimg 0.08 --batch-size 8 "
    "--tick-kimg 0.04 --device cpu --precision fp32 --compile off"
)
WIDTHS = shlex.split("--fmap-max 8 --z-dim 8")  # not where networks are given
FEWER = shlex.split("--data avatars:96")
GROWN = shlex.split("--start-resolution 4 --stable-kimg 0.04 --fade-kimg 0.04 --total-kimg 0.2")
RUNS = shlex.split(
    "--resolution 16 --width 8 --num 16 --measurements 1 --device cpu --precision fp32 --jobs 0 --seeds 2"
)
LONG = ("compare", "sweep")
"""Commands that train many runs: minutes, even of tiny ones."""
SMALLER = {
    r"--num \d+": "--num 32",
    r"--of 500": "--of 32",
    r"--fraction 0.1": "--fraction 0.4",
    r"--seconds \d+": "--seconds 1",
    r"--size 1024": "--size 64",
    r"--budget-minutes \d+|--budget-kimg \d+": "--budget-kimg 0.4",
    r"--minutes \d+|--kimg \d+": "--kimg 0.4",
    r"--label-from 3 --label-to 8": "--label-from cat --label-to dog",
}
DRIVE = "/content/drive/MyDrive/progan/run"
EXISTS = re.compile(r"RUN|runs/[\w-]+|progan/photos|drive")
"""What pages call a run that is there already."""


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Blocks of code: the language of a fence, empty for an indented one, and the lines."""
    language, block = None, list[str]()
    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            if language is not None:
                yield language, block
            language, block = (line.removeprefix("```") if language is None else None), []
        elif language is not None or line.startswith("    "):
            block.append(line if language is not None else line[4:])
        elif block:
            yield "", block
            block = []


def lines(text: str) -> Iterator[str]:
    """Lines of a page that one would type into a shell."""
    for language, block in blocks(re.sub(r" \\\n\s*", " ", text)):
        shown = any(line.startswith("$ ") for line in block)  # with what is printed below
        for line in block:
            if not language and (not shown or line.startswith("$ ")):
                yield from line.removeprefix("$ ").partition("  #")[0].strip().split(" && ")


def typed(line: str) -> str | None:
    """The line, if it is a command; None for a diagram or what a program prints."""
    program = re.match(r"(?:[A-Z_]+=\S+ |!)*([\w./'-]+)(?: |$)", line)
    programs = "progan pip git python pytest torchrun docker az sudo touch cd source npm . scripts/docs".split()
    return line if program and program[1] in programs else None


def reason(line: str) -> str | None:
    """Why a line is not executed."""
    return next((why for start, why in NOT_EXECUTED.items() if re.match(start, line)), None)


def snippets(text: str) -> list[str]:
    return ["\n".join(block) for language, block in blocks(text) if language == "python"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: 96 drawn faces as pictures, an archive, a dataset and digits; a run of cats and dogs."""
    world = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(world / "cache"))
        patch.chdir(world)
        prepare("avatars:96", world / "drawn", PrepareConfig(resolution=32, labels="none", workers=1))
        pixels = Dataset.open(world / "drawn").pixels(32, np.arange(96)).transpose(0, 2, 3, 1)
        for number, image in enumerate(pixels):
            for place in ("photos", f"pets/{'cat' if number % 2 else 'dog'}", "microscope"):
                (world / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(world / "photos" / f"{number}.png")
            Image.fromarray(image).save(world / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png")
            Image.fromarray(image[..., 0].astype(np.uint16) * 16).save(world / "microscope" / f"{number}.png")
        for name in ("my-photos", "my-faces", "new"):
            (world / name).symlink_to(world / "photos")
        for name in ("photos", "faces-raw-500"):
            shutil.make_archive(str(world / name), "zip", world / "photos")
        Image.fromarray(pixels[0]).save(world / "portrait.jpg")
        digits = np.random.default_rng(0).integers(0, 256, (96, 28, 28), np.uint8)
        Image.fromarray(digits[0]).save(world / "seven.png")
        downloads = world / "downloads" / "mnist"
        downloads.mkdir(parents=True)
        for name, array in (("images-idx3", digits), ("labels-idx1", np.arange(96, dtype=np.uint8) % 10)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (downloads / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
            (world / f"train-{name}-ubyte.gz").symlink_to(downloads / f"train-{name}-ubyte.gz")
        (world / "digits").symlink_to(downloads)
        (world / "network-final.pkl").symlink_to(ROOT / "tests" / "reference" / "network-final-small-nosrc.pkl")
        assert main(["import", "network-final.pkl", "celebahq.safetensors"]) == 0
        assert main(["prepare", "pets", "DATA", "--resolution", "16"]) == 0
        assert main(["train", "--data", "DATA", "--labels", "--out", "RUN", *TRAIN, *WIDTHS, *GROWN, "--quiet"]) == 0
        yield world


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with links to all that.

    Pages of runs, which have tests of their own, are not written, and classifiers of labels are trained for a moment.
    """
    monkeypatch.setenv("PROGAN_CACHE", str(world / "cache"))
    monkeypatch.setenv(FOLDER, str(world / "downloads"))
    monkeypatch.setattr(train, "write_report", lambda result: None)
    monkeypatch.setattr(classifier, "SHOWN", 200)
    for thing in world.iterdir():
        if thing.name not in ("RUN", "cache"):
            (tmp_path / thing.name).symlink_to(thing)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(line: str, world: Path) -> None:
    """A command of progan, with tiny sizes; a run that it names is there, unless the command begins it."""
    for long, short in SMALLER.items():
        line = re.sub(long, short, line)
    words = shlex.split(re.sub(r"^(?:[A-Z_]+=\S+ |!)*progan ", "", line))
    named = len(words) > 1 and not words[1].startswith("-")
    begins = words[0] == "train" and (named or "--data" in words or "--out" not in words)
    new = words[words.index("--out") + 1] if begins and "--out" in words else None
    for word in words:
        if EXISTS.fullmatch(word) and word != new:
            copied(world, word)
    if words[0] == "submit":
        words.append("--dry-run")
    elif begins and "--dry-run" not in words:
        words += [*TRAIN, *([] if "--init" in words else WIDTHS), *([] if "--data" in words else FEWER)]
    elif words[0] in LONG:
        words += RUNS
    assert main(words) == 0, line


def copied(world: Path, name: str) -> None:
    """The run under this name, unless there is one."""
    if not Path(name).exists():
        shutil.copytree(world / "RUN", name)


def commands(page: Path) -> list[str]:
    """Lines of a page that are executed."""
    return [line for line in filter(typed, lines(page.read_text(encoding="utf-8"))) if not reason(line)]


def is_long(line: str) -> bool:
    return any(f"progan {name} " in line for name in LONG)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_can_be_given_one_after_another(page: Path, world: Path, place: Path) -> None:
    for line in commands(page):
        if not is_long(line):
            execute(line.replace(DRIVE, "drive"), world)


@pytest.mark.long
@pytest.mark.parametrize("line", [line for page in PAGES for line in commands(page) if is_long(line)])
def test_comparisons_of_the_pages(line: str, world: Path, place: Path) -> None:
    execute(line, world)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")], ids=str)
def test_the_snippets_of_a_page_run(page: Path, world: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, options = progan.run.train, dict(zip(*[iter([*TRAIN, *WIDTHS])] * 2, strict=True))
    tiny = {flag.removeprefix("--").replace("-", "_"): value for flag, value in options.items()}

    def small(*names: object, minutes: float | None = None, **given: object) -> progan.Run:
        return train(*names, **{"data": "avatars:96", **given, **tiny, "quiet": True})

    monkeypatch.setattr(progan, "train", small)
    known = {"images": np.zeros((4, 16, 16, 3), np.uint8)}
    text = "\n".join(snippets(page.read_text(encoding="utf-8"))).replace(DRIVE, "drive")
    for name in re.findall(r'progan\.load\(\s*"([^"]+)"', text):
        if f'out="{name}"' not in text:
            copied(world, name)
    exec(f"import progan\n{text}", known)
    if "pixels" in known:
        assert (known["pixels"].dtype, known["pixels"].shape[0]) == (torch.uint8, 64)  # type: ignore[comparison-overlap]


def test_every_line_is_a_command_that_is_executed_or_has_a_reason() -> None:
    for page in PAGES:
        for line in filter(typed, lines(page.read_text(encoding="utf-8"))):
            assert reason(line) or re.match(r"(?:[A-Z_]+=\S+ |!)*progan ", line), f"{page.name}: {line}"


def test_reasons_that_are_no_longer_needed_are_gone() -> None:
    every = [line for page in PAGES for line in filter(typed, lines(page.read_text(encoding="utf-8")))]
    for start in NOT_EXECUTED:
        for one in start.split("|") if "(" not in start else [start]:
            assert any(re.match(one, line) for line in every), one


def test_lines_are_found() -> None:
    page = """text

    progan train  # long
    X=1 progan sample RUN \\
        --num 3

```python
progan = 3
```
```
  errors.py   errors
```

    $ progan prepare a b
    images 3

    pip install . && progan train
"""
    assert [*filter(typed, lines(page))] == [
        "progan train", "X=1 progan sample RUN --num 3", "progan prepare a b", "pip install .", "progan train",
    ]  # fmt: skip
    assert reason("pip install x")
    assert reason("progan sample RUN") is None
