"""What `pytest` leaves out by its markers .ci/run runs beside it, but what takes minutes: scripts/check-all has all."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_marker_is_run(pytestconfig: pytest.Config) -> None:
    own = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\nmarkers = [")[1].split("\n]")[0]
    markers = re.findall(r'^  "(\w+): ', own, re.MULTILINE)
    assert {"slow", "long"} <= {*markers}
    assert " and ".join(f"not {name}" for name in markers) in pytestconfig.getini("addopts")
    beside = " or ".join(name for name in markers if name != "long")
    assert f'\npytest -m "({beside}) and not long"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert '\npython -m pytest -m ""\n' in (ROOT / "scripts" / "check-all").read_text(encoding="utf-8")
