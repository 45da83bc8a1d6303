"""No test is left out of .ci/run: what `pytest` leaves out by its markers, it runs beside it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_marker_is_run(pytestconfig: pytest.Config) -> None:
    own = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\nmarkers = [")[1].split("\n]")[0]
    markers = re.findall(r'^  "(\w+): ', own, re.MULTILINE)
    assert "slow" in markers
    assert " and ".join(f"not {name}" for name in markers) in pytestconfig.getini("addopts")
    assert f'\npytest -m "{" or ".join(markers)}"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
