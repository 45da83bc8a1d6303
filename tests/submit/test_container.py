"""The Dockerfile, which no builder is here for: what hadolint says of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


@pytest.mark.skipif(HADOLINT is None, reason="pip install '.[test]'")
def test_the_dockerfile_passes_its_linter(tmp_path):
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)
    broken = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("--no-install-recommends ", "")
    (tmp_path / "Dockerfile").write_text(broken, encoding="utf-8")
    assert "DL3015" in subprocess.run([HADOLINT, tmp_path / "Dockerfile"], capture_output=True, text=True).stdout


def test_what_is_copied_is_sent_to_the_builder():
    copied = [word for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if line.startswith("COPY")
              for word in line.split()[1:-1]]  # fmt: skip
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied
    assert sent[0] == "*"
    assert all(f"!{word}" in sent and (ROOT / word).exists() for word in copied)
