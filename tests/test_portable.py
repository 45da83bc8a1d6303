"""What other systems have and have not: names of folders, files that cannot be replaced, signals; their workflow."""

import os
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from progan import files
from progan.data.cache import open_data
from progan.files import folder_name, write_whole
from progan.run_folder import numbered
from progan.training import signals

ROOT = Path(__file__).parents[1]


def test_names_of_folders_are_names_on_every_system(tmp_path):
    assert folder_name('a<b>c:d"e/f\\g|h?i*j\n') == "a-b-c-d-e-f-g-h-i-j-"
    assert folder_name("ends. . ") == "ends"
    assert len(folder_name("x" * 300)) == 80
    assert numbered(tmp_path, f"quickstart-hf:owner/{'x' * 300}").parent == tmp_path


def test_a_source_with_a_long_name_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / ("n" * 245)
    folder.mkdir()
    Image.new("RGB", (4, 4), "red").save(folder / "a.png")
    assert open_data(folder).count == 1


def test_windows_waits_while_another_program_reads_a_file(tmp_path, monkeypatch):
    original, refused, waited = os.replace, [1, 2], []

    def replace(old, new):
        if refused:
            refused.pop()
            raise PermissionError(13, "used by another process")
        original(old, new)

    path = tmp_path / "a"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "name", "nt")
        patch.setattr(files.os, "replace", replace)
        patch.setattr(files.time, "sleep", waited.append)
        write_whole(path, b"new")
        assert len(waited) == 2
        refused.extend(range(99))
        with pytest.raises(PermissionError):
            write_whole(path, b"newer")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(signals.signal, "SIGUSR1"), reason="a signal that stands for SIGBREAK")
def test_signals_that_a_system_lacks_are_left_out_and_its_own_are_used(monkeypatch):
    monkeypatch.delattr(signals.signal, "SIGHUP")
    monkeypatch.setattr(signals.signal, "SIGBREAK", signals.signal.SIGUSR1, raising=False)
    with signals.stop_on_signals() as stopped:
        os.kill(os.getpid(), signals.signal.SIGUSR1)
        assert stopped()


def test_the_workflow_runs_what_is_run_here():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    assert set(matrix["os"]) == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    oldest, too_new = re.findall(r'"torch>=([\d.]+),<([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        0
    ]
    newest = int(too_new.split(".")[1]) - 1
    assert (matrix["include"][0]["torch"], matrix["torch"]) == (f"{oldest}.*", [f"2.{newest}.*"])
    commands = "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])
    assert {".ci/run", "scripts/check"} <= set(re.findall(r"(?:scripts|\.ci)/[\w-]+", commands))


def test_the_containers_range_of_pytorch_is_the_projects():
    wanted = re.findall(r'"(torch>=[^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[0]
    assert f'ARG TORCH="{wanted}"' in (ROOT / "Dockerfile").read_text(encoding="utf-8")
