"""What the pages quote exists: files, modules, functions, options; and commands of the pages can be parsed."""

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from progan.cli import COMMANDS, UsageError, parser

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "progan"
PAGES = [*(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")), *ROOT.glob("docs/**/*.md")]
FOLDERS = {path.name for place in (ROOT, PACKAGE) for path in place.iterdir() if path.is_dir()}
"""A quoted path is one of the project where it begins with one of these; others are of run folders or users."""
FOREIGN_FLAGS = {"--nproc-per-node", "--nnodes", "--rdzv-backend", "--max-restarts", "-n"}  # of torchrun and pytest


def names(body: list[ast.stmt]) -> dict[str, ast.AST]:
    """What a module or a class defines or imports."""
    found: dict[str, ast.AST] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        elif isinstance(node, ast.Assign):
            found |= {name.id: node for each in node.targets for name in ast.walk(each) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
    return found


@functools.cache
def module(path: Path) -> dict[str, ast.AST]:
    return names(ast.parse(path.read_text(encoding="utf-8")).body)


@functools.cache
def everything() -> tuple[dict[str, list[ast.ClassDef]], set[str]]:
    """Classes of the package by name; names of all functions and classes."""
    nodes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    classes: dict[str, list[ast.ClassDef]] = {}
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            classes.setdefault(node.name, []).append(node)
    return classes, {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def in_class(node: ast.ClassDef, name: str) -> bool:
    """True if the class or one it is derived from has the attribute."""
    bases = [each for base in node.bases if isinstance(base, ast.Name) for each in everything()[0].get(base.id, [])]
    return name in names(node.body) or any(in_class(base, name) for base in bases)


def has(scope: dict[str, ast.AST], chain: list[str]) -> bool:
    """True if the names lead from a module to something it defines: `Schedule`, `at`."""
    if len(chain) < 2:
        return not chain or chain[0] in scope
    node = scope.get(chain[0])
    return len(chain) == 2 and isinstance(node, ast.ClassDef) and in_class(node, chain[1])


def python(path: str) -> list[Path]:
    """Modules of a path without suffix, below the package or the root."""
    places = [place / path for place in (PACKAGE, ROOT)]
    files = [file for place in places for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")]
    return [file for file in files if file.exists()]


def path_exists(word: str) -> bool:
    """`training/step.py`, `data/`, `tests/test_*.py`, `training/step` or `training/step.critic`."""
    if any(list(place.glob(word.rstrip("/"))) for place in (PACKAGE, ROOT)):
        return True
    folder, _, rest = word.rpartition("/")
    name, *chain = rest.split(".")
    return any(has(module(file), chain) for file in python(f"{folder}/{name}"))


def dotted_exists(word: str) -> bool:
    """`progan.train`, `progan.data.dataset`, `config.CHANGEABLE`, `Schedule.at`."""
    first, *chain = word.removeprefix("progan.").split(".")
    if first in everything()[0]:
        return len(chain) == 1 and any(in_class(node, chain[0]) for node in everything()[0][first])
    parts = [first, *chain]
    for end in range(len(parts), 0, -1):
        if files := python("/".join(parts[:end])):
            return any(has(module(file), parts[end:]) for file in files)
    return word.startswith("progan.") and first in ast.literal_eval(module(PACKAGE / "__init__.py")["__all__"].value)


@functools.cache
def flags() -> set[str]:
    """Options of all commands, of scripts and of benchmarks."""
    found = set(FOREIGN_FLAGS)
    for command in COMMANDS:
        leaf = parser()
        for name in command.split():
            leaf = leaf.commands()[name]
        found |= set(leaf._option_string_actions)
    for path in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")]:
        found |= set(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
    return found


def exists(word: str) -> bool | None:
    """True if what is quoted exists; None if it is nothing that can be looked up."""
    if re.fullmatch(r"--?[a-z].*", word):
        return word.split()[0].partition("=")[0] in flags()
    called = re.fullmatch(r"([A-Za-z_][\w.]+)\(.*\)", word)
    if called:
        word = called[1]
    if re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+", word) and word.split("/")[0] in FOLDERS:
        return path_exists(word)
    if re.fullmatch(r"\w[\w-]*\.py", word):
        return any(ROOT.glob(f"[!.]*/**/{word}"))
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", word) and word.split(".")[-1] not in ("json", "csv", "html"):
        first = word.split(".")[0]
        if first == "progan" or first[0].isupper() or (PACKAGE / f"{first}.py").exists():
            return dotted_exists(word)
    if called or re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)+", word):
        return word.split(".")[-1] in everything()[1]
    return None


def quoted(text: str) -> Iterator[str]:
    """Words in backticks, outside blocks of code."""
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def missing(text: str) -> list[str]:
    return [word for word in quoted(text) if exists(word) is False]


def commands(text: str) -> Iterator[str]:
    """Arguments of calls of progan in blocks of code, fenced or indented, without comments."""
    lines = re.sub(r"\\\n\s*", "", text)
    blocks = re.findall(r"```\w*\n.*?```|(?:^    .*$)+", lines, flags=re.DOTALL | re.MULTILINE)
    for part in re.split(r"&&|\n", "\n".join(blocks)):
        if found := re.match(r"\s*(?:\$ |\w+=\S+ |torchrun .* -m )*progan ([a-z].*)", part):
            yield found[1].partition("  #")[0].strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_quotes_exists(page: Path) -> None:
    assert missing(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_can_be_parsed(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        try:
            parser().parse_args(shlex.split(command))
        except UsageError as error:
            pytest.fail(f"progan {command}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_what_does_not_exist_is_found() -> None:
    good = "training/step.py training/step training/step.critic data/ tests/test_*.py Schedule.at run() progan.train "
    good += "config.CHANGEABLE progan.data.dataset.Dataset --lr config.json DIR/data step.py Dataset.batch(n) G(z) "
    good += "no/folder/of/ours ScheduleConfig models/progan.Generator.synthesize images.fade"
    bad = "training/nothing.py training/step.nothing data/nothing Schedule.nothing progan.nothing config.NOTHING "
    bad += "nothing() nothing.py Schedule.at.nothing NoSuchClass --no-such-flag models/progan.Generator.nothing"
    assert missing(" ".join(f"`{word}`" for word in [*good.split(), *bad.split()])) == bad.split()
    text = "    progan sample RUN  # x\n    progan evaluate A \\\n      --data B\ntext progan train\n"
    text += "```\nX=1 progan doctor\n    pip install . && progan train\n```\n    torchrun -n 4 -m progan train a\n"
    assert [*commands(text)] == ["sample RUN", "evaluate A --data B", "doctor", "train", "train a"]
