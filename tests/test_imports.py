"""Imports point down (ARCHITECTURE.md), and what only asks for help does not wait for torch."""

import ast
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import progan

PACKAGE = Path(progan.__file__).parent
ROWS = [
    {
        "avatars",
        "commands",
        "errors",
        "files",
        "progress",
        "per_resolution",
        "config",
        "devices",
        "options",
        "images",
        "randomness",
        "scores",
        "tensorfile",
        "plugins",
    },
    {"schedule", "data", "models", "losses"},
    {"presets", "pretrained", "snapshot", "run_folder"},
    {"training", "sampling", "metrics", "importers"},
    {"report", "export", "submit"},
    {"run"},
    {"comparison"},
    {"app"},
    {"cli"},
    {"__main__"},
]
ROW = {name: i for i, row in enumerate(ROWS) for name in row}
FILES = sorted(PACKAGE.rglob("*.py"))
ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(path for name in ("benchmarks", "scripts", "studies") for path in (ROOT / name).glob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports, at the top or inside a function, e.g. `progan.data.dataset`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def part(path: Path) -> str:
    """`data` of src/progan/data/dataset.py, `config` of src/progan/config.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_module_has_a_row() -> None:
    assert {part(path) for path in FILES} - {"__init__"} <= ROW.keys()


def test_the_rows_of_the_architecture_are_these() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+) \| (.*) \|$", text, flags=re.MULTILINE)
    written = [{word.rstrip("/") for word in re.findall(r"`(\w+/?)`", modules)} for _, modules in table]
    present = {part(path) for path in FILES} - {"__init__", "__main__"}
    assert written == [row & present for row in ROWS[:-1]]
    assert [int(number) for number, _ in table] == list(range(len(written)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_lower_rows_only(path: Path) -> None:
    """Inside a folder, and inside the lowest row, from anywhere. `progan` itself only lends its version."""
    me = part(path)
    if me == "__init__":
        return  # imports the public names lazily, see below
    for module in imported(path):
        if module.split(".")[0] != "progan" or module in ("progan", "progan.__version__"):
            continue
        other = module.split(".")[1]
        assert other in ROW, f"{path} takes {module} from progan itself, not from its home"
        assert other == me or ROW[other] < ROW[me] or ROW[other] == ROW[me] == 0, f"{me} must not import {module}"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_benchmarks_and_scripts_import_is_there(path: Path) -> None:
    """They are run seldom, some only by hand."""
    for module in imported(path):
        if module.startswith("progan."):
            pkgutil.resolve_name(module)


@pytest.mark.parametrize(
    "modules",
    [
        "progan",
        "progan.config, progan.commands, progan.options, progan.presets, progan.schedule, progan.errors",
        "progan.cli, progan.__main__",
    ],
)
def test_help_does_not_wait_for_torch(modules: str) -> None:
    code = f"import sys, {modules}; print(*sorted({{'torch', 'numpy', 'PIL', 'tensorboard'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_can_be_had() -> None:
    for name in progan.__all__:
        assert getattr(progan, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = progan.nonsense
