"""Packages that add a loss, a model, a metric, a source, an exporter: that of docs/extending.md, and broken ones."""

import json
import os
import re
import subprocess
import sys
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Literal, Optional

import pytest

from progan import options
from progan.config import BaseLossConfig, BaseModelConfig, LsganConfig, coerce
from progan.errors import ConfigError
from progan.options import _mistake
from progan.plugins import Registry, is_a, load

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def install(where: Path, points: str, files: dict[str, str], name: str = "progan-extras") -> None:
    """What pip leaves of a package: its modules and a folder of metadata."""
    for file, text in files.items():
        (where / file).parent.mkdir(parents=True, exist_ok=True)
        (where / file).write_text(text, encoding="utf-8")
    facts = where / f"{name.replace('-', '_')}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(points, encoding="utf-8")


def of_the_page() -> dict[str, str]:
    """Files of the page's package, by name."""
    files = {}
    for kind, text in re.findall(r"```(toml|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        named = re.match(r"# (progan_extras/\w+\.py)\n", text)
        files["pyproject.toml" if kind == "toml" else named[1] if named else "progan_extras/__init__.py"] = text
    return files


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page."""
    files = of_the_page()
    toml = files.pop("pyproject.toml")
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", toml[toml.index("[project.entry-points") :])
    where = tmp_path_factory.mktemp("site-packages")
    install(where, points.replace('"', ""), files)
    return where


def python(where: Path, folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(where), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "PROGAN_CACHE": str(folder / "cache")}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def progan(where: Path, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return python(where, folder, ["-m", "progan", *command.split()])


def done(where: Path, folder: Path, command: str) -> str:
    result = progan(where, folder, command)
    assert result.returncode == 0, result.stderr
    assert "left out" not in result.stderr
    return result.stdout


@pytest.mark.slow
def test_a_package_adds_a_loss_a_model_a_metric_a_source_and_an_exporter(extras: Path, tmp_path: Path) -> None:
    done(extras, tmp_path, "prepare discs:120 discs --resolution 16 --json")
    train = "train --data discs --out run --model perceptron --hidden 32 --loss absolute --target 0.75 --resolution 16 "
    train += "--start-resolution 16 --total-kimg 0.2 --batch-size 8 --compile off --device cpu --quiet"
    done(extras, tmp_path, train)
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))["config"]
    assert config["loss"] == {"kind": "absolute", "label_weight": 1.0, "target": 0.75}
    assert config["model"]["hidden"] == 32

    done(extras, tmp_path, f"{train} --total-kimg 0.24 --allow-change")  # the run is read again, and goes on
    measured = json.loads(done(extras, tmp_path, "evaluate run --metrics contrast --num 64 --device cpu --json"))
    assert {"contrast"} == set(measured["metrics"])

    # The exported module makes the pixels of the sample command.
    done(extras, tmp_path, "export torchscript run out --json")
    done(extras, tmp_path, "sample run --num 3 --out pixels.npz --device cpu --json")
    compare = """
import numpy, progan, torch
z = progan.load("run").latents(range(3))
made = torch.jit.load("out/generator-16x16.pt")(z)
assert abs(made.permute(0, 2, 3, 1).int().numpy() - numpy.load("pixels.npz")["images"].astype(int)).max() <= 1
"""
    called = python(extras, tmp_path, ["-c", compare])
    assert called.returncode == 0, called.stderr


@pytest.mark.long
def test_pip_installs_the_package_as_it_stands_on_the_page(tmp_path: Path) -> None:
    for file, text in of_the_page().items():
        (tmp_path / "extras" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "extras" / file).write_text(text, encoding="utf-8")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", "site", "./extras"]
    installed = python(tmp_path / "site", tmp_path, pip)
    assert installed.returncode == 0, installed.stderr
    added = json.loads(done(tmp_path / "site", tmp_path, "prepare discs:12 discs --resolution 8 --json"))
    assert added["count"] == 12
    assert "[perceptron] Units of the hidden layer" in done(tmp_path / "site", tmp_path, "train --help-all")


def test_help_lists_what_packages_add(extras: Path, tmp_path: Path) -> None:
    text = " ".join(done(extras, tmp_path, "train --help-all").split())
    assert "dcgan, growing-batchnorm, perceptron " in text
    assert "[absolute] Score that D should give to real images" in text
    assert "torchscript" in done(extras, tmp_path, "export --help")
    assert "standard deviation of the fakes' pixels" in done(extras, tmp_path, "evaluate --help")


@pytest.mark.slow
def test_without_the_package_its_run_names_what_is_missing(extras: Path, tmp_path: Path) -> None:
    train = "train --data discs:40 --out run --loss absolute --resolution 8 --total-kimg 0.05 --batch-size 8 --quiet"
    done(extras, tmp_path, f"{train} --stable-kimg 0.01 --fade-kimg 0.01 --fmap-max 8 --compile off --device cpu")
    result = progan(tmp_path, tmp_path, "sample run")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "cannot be used: loss absolute is not installed. Install the package that has it" in result.stderr


def test_what_is_wrong_with_a_package_is_one_line(tmp_path: Path) -> None:
    points = """[progan.losses]
lsgan = broken:Config
gone = nowhere:Config
raises = raising:Config
leaves = leaving:Config
number = broken:number
clash = broken:Clash
another = broken:Named
[progan.metrics]
thing = broken:Config
[progan.exporters]
thing = broken:number
[progan.sources]
thing = broken:number
"""
    module = '''from dataclasses import dataclass
from typing import ClassVar
from progan.config import BaseLossConfig
number = 3
class Config(BaseLossConfig): kind = "lsgan"
@dataclass(frozen=True)
class Clash(BaseLossConfig):
    kind: ClassVar[str] = "clash"
    home: ClassVar[str] = "broken:Nothing"
    lr: float = 1.0
    """An option of the schedule."""
@dataclass(frozen=True)
class Named(BaseLossConfig):
    kind: ClassVar[str] = "named"
    home: ClassVar[str] = "broken:Nothing"
'''
    install(
        tmp_path,
        points,
        {"broken.py": module, "raising.py": "1 / 0", "leaving.py": "raise SystemExit('boom')"},
        "broken",
    )
    result = progan(tmp_path, tmp_path, "train --help-all")
    assert result.returncode == 0
    lines = [line for line in result.stderr.splitlines() if line]
    assert all(re.match(r"\w+ of broken 1.0 \(progan.\w+\) is left out: ", line) for line in lines)
    told = {line.split()[0]: line.partition("left out: ")[2] for line in lines}
    assert told["lsgan"] == "its name is taken"
    assert told["gone"] == "ModuleNotFoundError: No module named 'nowhere'"
    assert told["raises"] == "ZeroDivisionError: division by zero"
    assert told["leaves"] == "SystemExit: boom"
    assert told["number"] == "it is no dataclass derived from config.BaseLossConfig that has a home"
    assert told["clash"] == "schedule has an option lr already"
    assert told["another"] == "its kind is 'named', not 'another'"
    for command, what in (
        ("evaluate --help", "it is no progan.metrics.base.Entry"),
        ("export --help", "it is no progan.export.Exporter"),
        ("prepare nothing out", "it is no function"),
    ):
        said = progan(tmp_path, tmp_path, command).stderr
        assert f"is left out: {what}" in said
        assert "Traceback" not in said
    assert progan(tmp_path, tmp_path, "doctor --json").returncode == 0  # and whoever does not ask is not told


def test_own_entries_are_had_without_looking_for_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progan.plugins.entry_points", lambda **group: pytest.fail("looked"))
    assert Registry("losses", {"a": 1}, is_a(int))["a"] == 1


def test_load_follows_a_home() -> None:
    assert load("progan.config:LsganConfig") is LsganConfig


def test_a_class_that_is_no_dataclass_of_its_own_is_refused() -> None:
    """Its fields would be no options."""

    class Plain(LsganConfig):
        home = "a:B"
        weight: float = 3.0

    assert "no dataclass" in (_mistake("lsgan", Plain, "loss", BaseLossConfig) or "")


def loss(name: str, annotation: object, default: object) -> type:
    """Config class of a loss with one option."""
    fields = [(name, annotation, default)]
    return make_dataclass("Some", fields, bases=(BaseLossConfig,), namespace=SOME, frozen=True)


SOME: dict[str, object] = {"kind": "some", "home": "a:B", "__module__": __name__}


@pytest.mark.parametrize(
    ("name", "annotation", "default", "message"),
    [
        ("profile", float, 0.5, "`progan train` has an argument profile already"),
        ("weights", list[float], field(default_factory=list), "its option weights has no default"),
        ("weights", tuple[float, ...], (1.0,), "its option weights is neither text, a number"),
        ("hidden", str, "x", "model has an option hidden already"),
    ],
)
def test_options_that_cannot_be_are_refused(
    name: str, annotation: object, default: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_field_docs", lambda cls: {})
    perceptron = make_dataclass("P", [("hidden", int, 64)], bases=(BaseModelConfig,), namespace=SOME, frozen=True)
    monkeypatch.setitem(options.KINDS, "model", {"some": perceptron})
    found = _mistake("some", loss(name, annotation, default), "loss", BaseLossConfig) or ""
    assert message in found.replace("a model", "model")


@pytest.mark.parametrize(
    ("annotation", "default"),
    [(Literal["mean", "sum"], "mean"), (float | None, None), (Optional[float], 0.5), (float, -1.0), (bool, True)],  # noqa: UP045
)
def test_options_of_any_kind_and_sign(annotation: object, default: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_field_docs", lambda cls: {})
    cls = loss("value", annotation, default)
    assert _mistake("some", cls, "loss", BaseLossConfig) is None
    assert cls().value == default == coerce("value", default, annotation)
    with pytest.raises(ConfigError, match="label-weight must not be negative"):
        cls(label_weight=-1.0)
