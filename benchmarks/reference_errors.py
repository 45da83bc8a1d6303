"""How far progan's numbers are from those of the authors' code: the largest differences that the reference tests see.

    python benchmarks/reference_errors.py [--json OUT]

Runs the tests with an `error` and a `relative_error` that keep what they find, and prints the largest difference for
each test and each bound that it asserts.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_step import machine

TESTS = Path(__file__).resolve().parent.parent / "tests"
FILES = (
    "models/test_reference_networks.py",
    "models/test_reference_layers.py",
    "losses/test_reference_losses.py",
    "training/test_reference_training.py",
)
found: dict[str, dict[str, float]] = defaultdict(dict)
"""Of each test and bound."""
running = ""
"""The test that runs."""


class Difference(float):
    """A difference that is kept where a test compares it with a bound."""

    def __lt__(self, bound: float) -> bool:
        bounds = found[running]
        bounds[f"{bound:g}"] = max(float(self), bounds.get(f"{bound:g}", 0.0))
        return float(self) < bound


def keeping(measure: Callable[..., float]) -> Callable[..., Difference]:
    return lambda *arguments: Difference(measure(*arguments))


class Names:
    """Plugin of pytest that knows which test runs."""

    @pytest.hookimpl
    def pytest_runtest_call(self, item: pytest.Function) -> None:
        global running
        running = item.originalname


def main() -> None:
    """Run the tests and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    import reference_networks

    for name in ("error", "relative_error"):  # before the tests import them
        setattr(reference_networks, name, keeping(getattr(reference_networks, name)))
    red = pytest.main(["-q", "-n", "0", *(str(TESTS / file) for file in FILES)], plugins=[Names()])
    if red:
        sys.exit("The tests are red.")
    for test, bounds in found.items():
        for bound, largest in bounds.items():
            print(f"{test:60} {largest:.2g} < {bound}")
    if options.json:
        report = {"machine": machine("cpu"), "torch": torch.__version__, "largest": found}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
