"""Any command with anything behind it: done, or refused in one line with exit code 2; nothing is left half-written."""

import argparse
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import progan.cli
import progan.run
from hostile import TEXTS, cases
from progan import models, snapshot
from progan.config import PrepareConfig, ProGANConfig, RunConfig, ScheduleConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.sources import drawn
from progan.errors import RunError
from progan.models import ImageShape
from progan.snapshot import SnapshotInfo, of_generator

HERE = Path(__file__).parents[1]
RUN, PICKLE = HERE / "fixtures" / "run-v1", HERE / "reference" / "network-final-small-nosrc.pkl"
INPUTS = "images x.npz data run s.safetensors n.pkl junk empty images/1.png data/dataset.json run/config.json".split()
PATHS = st.sampled_from([*INPUTS, "nowhere", "avatars:3", "avatars:0", "", ".", "/dev/null/x", "a\nb", "x" * 300])
WORDS = TEXTS.filter(lambda text: "\0" not in text)  # which no process can be given
OUTS = st.sampled_from(["new", "new/er", "new.png", "new.zip", "new.safetensors", "empty", "junk", "junk/new", "data"])
NUMBERS = st.sampled_from("-1 0 1 2 4 5 8 16 64 0.5 -0.5 1e-9 1e306 nan inf 4:8,8:4 4:nan 1000000000000 x".split())


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list]]:
    """Every command and its arguments."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for name, inner in groups[0].choices.items() if groups else ():
        yield from leaves(inner, (*words, name))
    if not groups:
        yield words, [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


COMMANDS = {" ".join(words): actions for words, actions in leaves(progan.cli.parser())}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything, small."""
    place = tmp_path_factory.mktemp("commands") / "world"
    (place / "images" / "a").mkdir(parents=True)
    (place / "empty").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
    for number in range(4):
        Image.fromarray(pixels[number]).save(place / "images" / f"{number}.png")
    np.savez(place / "x.npz", images=pixels, labels=np.arange(24) % 2)
    prepare(place / "x.npz", place / "data", PrepareConfig(workers=1))
    shutil.copytree(RUN, place / "run")
    shutil.copy(PICKLE, place / "n.pkl")
    (place / "junk").write_bytes(b"\x93junk\xff")
    model, shape = ProGANConfig(z_dim=4, fmap_base=16, fmap_max=4), ImageShape(8, 1, 2)
    G, _ = models.build(model, shape, seed=0)
    config = RunConfig(model=model, schedule=ScheduleConfig(resolution=8))
    info = SnapshotInfo(config, shape, 8, 1.0, 96, "digits", "class", ("0", "1"))
    of_generator(G, info, torch.eye(2)).save(place / "s.safetensors")
    return place


@pytest.fixture
def call(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], int]:
    """Run a command in a fresh copy of the world, up to where training would begin, and check what it left."""

    def no_training(*_: object) -> None:
        raise RunError("training begins")

    monkeypatch.setattr(progan.run, "train_job", no_training)
    monkeypatch.setattr("progan.training.preflight.autotune.SPEEDS", 0.1)
    monkeypatch.setattr("progan.app.server.serve", lambda *given: None)  # which does not end by itself
    monkeypatch.setattr(snapshot, "_MEAN_LATENTS", 10)
    monkeypatch.setattr(drawn, "AVATARS_COUNT", 6)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    numbers = itertools.count()

    def run(arguments: list[str]) -> int:
        place = tmp_path / str(next(numbers))
        shutil.copytree(world, place)
        monkeypatch.chdir(place)
        monkeypatch.setenv("PROGAN_CACHE", str(place / "cache"))
        code = progan.cli.main(arguments)
        out, err = capsys.readouterr()
        assert code in (0, 2)
        said = [line for line in err.splitlines() if line.startswith("progan: ")]
        assert len(said) == (1 if code else 0), err
        assert code == 0 or err.splitlines()[-1] == said[0]
        assert "Traceback" not in err
        if code == 0 and "--json" in arguments:
            json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert not list(place.rglob("*.progan-tmp"))
        assert [path for path in Path(os.path.dirname(place)).iterdir() if not path.name.isdigit()] == []
        for manifest in place.rglob("dataset.json"):
            Dataset.open(manifest.parent, verify=True)
        shutil.rmtree(place)
        return code

    return run


MEANT = {
    "prepare": {"source": ["images", "x.npz", "avatars:3"], "out": ["new"]},
    "data show": {"dataset": ["data", "images"]},
    "data split": {"dataset": ["data"], "train": ["a"], "heldout": ["b"], "count": ["3"], "fraction": ["0.5"]},
    "sample": {"source": ["s.safetensors", "run"], "label": ["0", "1"]},
    "evaluate": {"source": ["s.safetensors", "run"], "data": ["data", "x.npz"], "metrics": ["swd", "ms-ssim"]},
    "report": {"source": ["run"], "data": ["data"]},
    "import": {"source": ["n.pkl"], "out": ["new.safetensors"]},
    "train": {"preset": ["mnist32", "quickstart"], "data": ["data"], "out": ["new", "run"]},
}
"""Words that fit, by command and argument."""


def word(draw: st.DrawFn, name: str, action: argparse.Action) -> str:
    """A word for an argument of a command: mostly what it is meant for."""
    if draw(st.integers(0, 4)):
        numbers = ["1", "2", "4", "8"] if action.type is int else ["1", "0.5", "4:8,8:4", "auto", "cpu", "new.png"]
        return draw(st.sampled_from([*map(str, action.choices or MEANT[name].get(action.dest, numbers))]))
    if action.dest in ("out", "sheets", "html", "train", "heldout"):
        return draw(OUTS | PATHS)
    return draw(NUMBERS | PATHS | WORDS)


@st.composite
def command_lines(draw: st.DrawFn, name: str) -> list[str]:
    """A command with all it needs, and some of its flags."""
    actions = COMMANDS[name]
    given = [action for action in actions if not action.option_strings and (action.nargs != "?" or draw(st.booleans()))]
    words = [*name.split(), *(word(draw, name, action) for action in given)]
    flags = [action for action in actions if action.option_strings]
    needed = [action for action in flags if name == "data split" and action.dest == "count" and draw(st.booleans())]
    for action in [*needed, *draw(st.lists(st.sampled_from(flags), max_size=3, unique_by=id))]:
        words += [draw(st.sampled_from(action.option_strings))]
        words += [] if action.nargs == 0 else [word(draw, name, action)]
    return words


@pytest.mark.slow
@cases
@given(data=st.data())
def test_any_command_with_anything(call: Callable[[list[str]], int], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MEANT)))
    call(data.draw(command_lines(name)))


SLOW = {"train"}  # which tries the precisions of the default networks


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(COMMANDS)]
)
def test_every_command_without_arguments(call: Callable[[list[str]], int], name: str) -> None:
    call(name.split())


@pytest.mark.slow
@cases
@given(words=st.lists(WORDS | st.sampled_from([*" ".join(COMMANDS).split(), "--json", "--", "-", "--out"]), max_size=4))
def test_words_that_are_no_command(call: Callable[[list[str]], int], words: list[str]) -> None:
    try:
        progan.cli.parser().parse_args(words)
    except (progan.cli.UsageError, SystemExit):
        call(words)


@pytest.mark.parametrize(
    "line",
    [
        "sample s.safetensors --num 1000000000000",
        "sample s.safetensors --seeds 0-99999999999999",
        "sample s.safetensors --seed 99999999999999999999999999",
        "sample s.safetensors --columns 0",
        "sample s.safetensors --columns -3",
        "sample s.safetensors --resolution -4",
        "sample s.safetensors --resolution 3",
        "sample s.safetensors --truncation nan",
        "sample s.safetensors --out /dev/null/x.png",
        "sample s.safetensors --out empty/x.y",
        "sample s.safetensors --separate --out junk",
        "sample s.safetensors --label 7",
        "data show data --sheets junk",
        "data show data --html /dev/null/x",
        "data show data --html empty/x.y",
        "data split data a b --fraction nan",
        "data split data a b --fraction inf",
        "data split data a b --count 3 --seed -1",
        "data split data a a --count 3",
        "evaluate s.safetensors --data data --num -1",
        "evaluate s.safetensors --data data --seed 99999999999999999999999999",
        "evaluate s.safetensors --data data --metrics ,",
        "report run --out /dev/null/x",
        "import n.pkl /dev/null/x.safetensors",
        "prepare images /dev/null/x",
        "prepare images junk",
        "prepare images new --background nocolour",
        "train --data data --out junk",
        "train --data data --out run",
        "train mnist32 --data data --device nothing",
        "train --data data --z-dim 65537 --dry-run",
        "train --total-kimg 1e306 --dry-run",
    ],
)
def test_mistakes_are_answered(call: Callable[[list[str]], int], line: str) -> None:
    assert call(line.split()) == 2
