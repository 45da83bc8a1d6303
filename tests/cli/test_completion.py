"""`progan completion`, in a real bash."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from progan.cli import main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab")
    path = tmp_path_factory.mktemp("completion") / "progan.bash"
    printed = subprocess.run(
        [sys.executable, "-m", "progan", "completion", "bash"], capture_output=True, text=True, check=True
    )
    path.write_text(printed.stdout, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tra", {"train"}),
        ("data sp", {"split"}),
        ("export on", {"onnx"}),
        ("train quick", {"quickstart", "quickstart-paper"}),
        ("train --total-k", {"--total-kimg"}),
        ("sample snap", {"snapshots", "snap.safetensors"}),
        ("app snap", {"snapshots", "snap.safetensors"}),
        ("train --init snap", {"snapshots", "snap.safetensors"}),
        ("compare --models snap", {"snapshots", "snap.safetensors"}),
    ],
)
def test_bash_completes(script: Path, tmp_path: Path, words: str, completed: set[str]) -> None:
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snap.safetensors").touch()
    typed = ["progan", *words.split()]
    ask = f"""
        source {script}
        COMP_WORDS=({" ".join(typed)}) COMP_CWORD={len(typed) - 1} COMP_LINE='{" ".join(typed)}'
        $(complete -p progan | grep -o '_shtab[a-z_]*') progan {typed[-1]} {typed[-2]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True)
    assert {word.strip().rstrip("/") for word in done.stdout.split()} == completed, done.stderr


def test_without_its_package_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 2
    assert "pip install '.[completion]'" in capsys.readouterr().err
