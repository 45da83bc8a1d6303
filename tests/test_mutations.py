"""The breakages of scripts/mutations.py are of this code. That they are noticed, `scripts/check-all` shows."""

import re
from pathlib import Path

from script import load

ROOT = Path(__file__).parents[1]
mutations = load("mutations")


def test_every_breakage_has_a_name_of_its_own() -> None:
    names = [mutation.name for mutation in mutations.MUTATIONS]
    assert sorted(names) == sorted(set(names))


def test_what_is_broken_is_in_the_code() -> None:
    for mutation in mutations.MUTATIONS:
        text = (ROOT / "src" / "progan" / mutation.file).read_text(encoding="utf-8")
        assert [old for old in mutation.edits if old not in text] == [], mutation.name


def test_the_tests_that_notice_it_exist() -> None:
    for test in {test for mutation in mutations.MUTATIONS for test in mutation.tests}:
        path, *_, name = mutations.node(test).split("::")
        definition = rf"^ *(def|class) {name.partition('[')[0]}\b"
        assert re.search(definition, Path(path).read_text(encoding="utf-8"), re.MULTILINE), test
