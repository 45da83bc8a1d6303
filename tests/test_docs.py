"""What the pages quote exists: files, modules, functions, options; and commands of the pages can be parsed."""

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import progan
from progan.cli import COMMANDS, UsageError, parser
from progan.config import CHANGEABLE

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "progan"
PAGES = [*(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")), *ROOT.glob("docs/**/*.md")]
FOLDERS = {path.name for place in (ROOT, PACKAGE) for path in place.iterdir() if path.is_dir()}
"""A quoted path is one of the project where it begins with one of these; others are of run folders or users."""
TOP = parser()
FOREIGN_FLAGS = {"--max-restarts", "--requeue", "--no-index", "--logdir", "--spec"}  # of torchrun, sbatch, pip …
FILE_TYPES = ("json", "jsonl", "csv", "html", "txt", "npy", "npz", "zip", "parquet")


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
    """Classes of the package by name; names of all functions, classes, and what modules define."""
    nodes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    defined = {name for path in PACKAGE.rglob("*.py") for name in module(path)}
    classes: dict[str, list[ast.ClassDef]] = {}
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            classes.setdefault(node.name, []).append(node)
    return classes, defined | {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


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
    """`progan.train`, `progan.data.dataset`, `config.CHANGEABLE`, `Schedule.at`, `step.average` of any module step."""
    if word.startswith("progan.") and word.count(".") == 1:
        public = module(PACKAGE / "__init__.py")["__all__"]
        assert isinstance(public, ast.Assign)
        if word.removeprefix("progan.") in ast.literal_eval(public.value):
            return True
    parts = word.removeprefix("progan.").split(".")
    if parts[0] in everything()[0]:
        return len(parts) == 2 and any(in_class(node, parts[1]) for node in everything()[0][parts[0]])
    for end in range(len(parts), 0, -1):
        if files := python("/".join(parts[:end])) or [*PACKAGE.rglob("/".join(parts[:end]) + ".py")]:
            return any(has(module(file), parts[end:]) for file in files)
    return False


@functools.cache
def flags() -> set[str]:
    """Options of all commands, of scripts and of benchmarks."""
    found = set(FOREIGN_FLAGS)
    for command in COMMANDS:
        leaf = TOP
        for name in command.split():
            leaf = leaf.commands()[name]
        found |= set(leaf._option_string_actions)
    for path in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")]:
        found |= set(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
    return found


def command_exists(words: list[str]) -> bool:
    """True for a command, or a group of them, with options that it has: `data split --fraction 0.1`, `train --help`."""
    leaf = TOP
    while words and words[0] in leaf.commands():
        leaf, words = leaf.commands()[words[0]], words[1:]
    named = leaf.prog != "progan" or not words or words[0].startswith("-")
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    return named and given <= leaf._option_string_actions.keys()


def exists(word: str) -> bool | None:
    """True if what is quoted exists; None if it is nothing that can be looked up."""
    if "NAME" in word:
        return None
    if word.startswith("progan "):
        return command_exists(word.split()[1:])
    if " " in word and "(" not in word:  # a command line of something else, or options
        return all(exists(part) is not False for part in word.split() if "/" in part or part.startswith("--"))
    if re.fullmatch(r"--[a-z].*", word):
        return word.partition("=")[0] in flags()
    called = re.fullmatch(r"([A-Za-z_][\w.]+)\(.*\)", word)
    if called:
        word = called[1]
    if re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+", word) and word.split("/")[0] in FOLDERS:
        return path_exists(word)
    if re.fullmatch(r"\w[\w-]*\.py", word):
        return any(ROOT.glob(f"[!.]*/**/{word}"))
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", word) and word.split(".")[-1] not in FILE_TYPES:
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
    if page.name == "extending.md":
        pytest.skip("its commands need its package: tests/test_plugins.py")
    for command in commands(page.read_text(encoding="utf-8")):
        try:
            TOP.parse_args(shlex.split(command))
        except UsageError as error:
            pytest.fail(f"progan {command}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.slow
def test_the_manual_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is in it, and every link and name leads somewhere."""
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference.html").read_text(encoding="utf-8")
    assert all(f'id="progan.{name}"' in reference for name in progan.__all__ if name != "__version__")


def test_the_version_is_in_one_place() -> None:
    """Besides it, CHANGELOG.md names the newest first."""
    assert f"## {progan.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n\n")[1]
    for name in ("CITATION.cff", "pyproject.toml", "README.md", "Dockerfile", "docs/conf.py"):
        assert progan.__version__ not in (ROOT / name).read_text(encoding="utf-8"), name


def test_the_options_that_can_change_are_listed() -> None:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").split("`--allow-change`\n")[1]
    listed = re.findall(r"`--([a-z-]+)`", text.partition("`config.CHANGEABLE`")[0])
    assert sorted(listed) == sorted(name.replace("_", "-") for name in CHANGEABLE)


def test_what_does_not_exist_is_found() -> None:
    good = "training/step.py training/step training/step.critic data/ tests/test_*.py Schedule.at run() progan.train "
    good += "config.CHANGEABLE progan.data.dataset.Dataset --lr config.json DIR/data step.py Dataset.order(n) G(z) "
    good += "no/folder/of/ours ScheduleConfig models/progan.Generator.synthesize images.fade"
    bad = "training/nothing.py training/step.nothing data/nothing Schedule.nothing progan.nothing config.NOTHING "
    bad += "nothing() nothing.py Schedule.at.nothing NoSuchClass --no-such-flag models/progan.Generator.nothing "
    bad += "nothing.at step.nothing"
    more = ["progan trian", "progan sample --lr 3", "pytest tests/nothing.py", "python scripts/nothing.py --processes"]
    fine = ["progan data split A B --count=3", "progan --help", "pytest tests/test_docs.py", "if progressive"]
    wrong = [*bad.split(), *more]
    assert missing(" ".join(f"`{word}`" for word in [*good.split(), *fine, *wrong])) == wrong
    text = "    progan sample RUN  # x\n    progan evaluate A \\\n      --data B\ntext progan train\n"
    text += "```\nX=1 progan doctor\n    pip install . && progan train\n```\n    torchrun -n 4 -m progan train a\n"
    assert [*commands(text)] == ["sample RUN", "evaluate A --data B", "doctor", "train", "train a"]
