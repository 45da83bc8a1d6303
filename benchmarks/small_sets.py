"""What helps where images are few: networks to begin with (`--init`), and augmentation (`--augment`), on 500 faces.

    python benchmarks/small_sets.py init    FACES RUNS [--seeds 3] [--kimg 20] [--jobs 1] [--out docs/measured]
    python benchmarks/small_sets.py augment FACES RUNS [--seeds 3] [--kimg 60] [--jobs 1] [--out docs/measured]
    python benchmarks/small_sets.py both    FACES RUNS [--seeds 3] [--kimg 20] [--jobs 1] [--out docs/measured]

FACES is any source of some 13,000 grey faces. They are split once by chance into 500 to train on, 4,096 that no network
ever sees, to measure with, and the others, on which the generator to begin with is trained. A run is a process with one
thread. RUNS keeps everything: what was interrupted goes on, what is finished is not made again.

For each case and seed: the sliced Wasserstein distance to the unseen faces, and the gap of D between the faces it is
trained on and unseen ones (the mean over the last ticks), as such and relative to that between reals and fakes. The
verdict is Welch's 95 % interval of each case's mean minus the first one's.
"""

import argparse
import json
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import torch
from equal_quality import TRAIN, verdict

import progan
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.split import split
from progan.files import write_whole
from progan.run_folder import RunFolder

SMALL, UNSEEN, NUM, LAST = 500, 4096, 2048, 5
"""Faces to train on and to measure with, images of each kind in a measurement, and ticks that a gap is the mean of."""
COMMON: dict[str, Any] = {
    "preset": "quickstart-paper",
    "resolution": 32,
    "start_resolution": 32,
    "mirror": True,
    "tick_kimg": 2,
    "device": "cpu",
    "compile": "off",
    "quiet": True,
}
GROWING = {4: (0, 0.05), 8: (0.1, 0.1), 16: (0.15, 0.15), 32: (0.2, 1)}
"""Resolution -> fractions of a growing run in which it fades in and is stable; the last lasts to the end."""
R1: dict[str, Any] = {"loss": "nonsaturating", "r1_weight": 5}
"""The loss with which both augmentations were published."""
STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    "init": {
        "from nothing": {},
        "from nothing, growing": {"start_resolution": 4},
        "from G and D of other faces": {"init": "RUN"},
        "from the average of G": {"init": "SNAPSHOT"},
    },
    "augment": {
        "none": R1,
        "diffaugment": {**R1, "augment": "diffaugment"},
        "ada": {**R1, "augment": "ada", "ada_kimg": 20},
    },
    "both": {
        "none": {"init": "RUN"},
        "diffaugment": {"init": "RUN", "augment": "diffaugment"},
        "ada": {"init": "RUN", "augment": "ada", "ada_kimg": 20},
    },
}
"""Study -> case -> options; the first case is the one that the others are compared with."""
DEFAULT_KIMG = {"init": 20.0, "augment": 60.0, "both": 20.0}


def datasets(source: str, folder: Path) -> dict[str, Dataset]:
    """The small set, the unseen faces and the others, made once."""
    parts = {name: folder / "data" / name for name in ("all", "rest", "unseen", "others", "small")}
    if not (parts["small"] / "dataset.json").exists():
        prepare(source, parts["all"], PrepareConfig(resolution=32, channels="grey"))
        split(parts["all"], parts["rest"], parts["unseen"], count=UNSEEN)
        split(parts["rest"], parts["others"], parts["small"], count=SMALL, seed=1)
    return {name: Dataset.open(parts[name]) for name in ("small", "unseen", "others")}


def train(out: Path, kimg: float, **options: Any) -> dict[str, Any]:
    """A whole run of so many kimg in a process of its own, begun or continued: its path, seconds and kimg."""
    if options["start_resolution"] < options["resolution"]:
        lengths = [(r, round(kimg * fade, 3), round(kimg * stable, 3)) for r, (fade, stable) in GROWING.items()]
        options["fade_kimg"] = ",".join(f"{r}:{fade}" for r, fade, _ in lengths)
        options["stable_kimg"] = ",".join(f"{r}:{stable}" for r, _, stable in lengths)
    options["total_kimg"] = kimg
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    command = [sys.executable, "-c", TRAIN, str(out), json.dumps(given)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert run["finished"]
    return run


def gaps(run: Path) -> dict[str, float]:
    """D's gap between faces it is trained on and unseen ones, over the last ticks; its probability where it has one."""
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()][-LAST:]
    gap = sum(line["health/held_out_gap"] for line in lines)
    whole = sum(line["health/score_real"] - line["health/score_fake"] for line in lines)
    found = {"gap": gap / len(lines), "relative_gap": gap / whole}
    p = [line["augment/p"] for line in lines if "augment/p" in line]
    return found | ({"p": p[-1]} if p else {})


def measured(run: dict[str, Any], unseen: Dataset) -> dict[str, Any]:
    """Numbers of a finished run, kept beside it."""
    folder = Path(run["path"])
    kept = folder / "measured.json"
    if not kept.exists():
        swd = progan.evaluate(progan.load(folder), unseen, ("swd",), NUM)["swd"]
        assert swd.floor is not None
        found = {"swd": swd.value, "reals": swd.floor.value, **gaps(folder)}
        write_whole(kept, json.dumps({**found, "seconds": run["seconds"]}).encode())
    return dict(json.loads(kept.read_text()))


def main() -> None:
    """Train what is missing, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("faces")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kimg", type=float, help="of every run (default: 60 for augment, else 20)")
    parser.add_argument("--source-kimg", type=float, default=145, help="of the run to begin with, which grows")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/measured"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kimg, cases = arguments.kimg or DEFAULT_KIMG[arguments.study], STUDIES[arguments.study]
    sets = datasets(arguments.faces, arguments.runs)
    common = {**COMMON, "precision": arguments.precision, "data": sets["small"].path, "held_out": sets["unseen"].path}

    source: Path | None = None
    if any("init" in options for options in cases.values()):
        other = {"data": sets["others"].path, "seed": 100, "start_resolution": 4}
        begun = train(
            arguments.runs / f"source-{arguments.source_kimg:g}", arguments.source_kimg, **{**common, **other}
        )
        source = Path(begun["path"])
        print("source", measured(begun, sets["unseen"]), flush=True)

    def one(case: tuple[int, str]) -> dict[str, Any]:
        seed, name = case
        options = {**common, **cases[name], "seed": seed}
        if source is not None and "init" in options:
            options["init"] = source if options["init"] == "RUN" else RunFolder(source).snapshot()
        folder = arguments.runs / f"{arguments.study}-{kimg:g}" / f"{name.replace(' ', '-')}-{seed}"
        run = train(folder, kimg, **options)
        line = {"case": name, "seed": seed, **measured(run, sets["unseen"])}
        print(line, flush=True)
        return line

    with ThreadPoolExecutor(arguments.jobs) as pool:
        lines = list(pool.map(one, product(range(arguments.seeds), cases)))
    report: dict[str, Any] = {
        "study": arguments.study,
        "kimg": kimg,
        "options": {name: str(value) for name, value in COMMON.items()} | {"precision": arguments.precision},
        "cases": cases,
        "images": {name: each.count for name, each in sets.items()},
        "machine": platform.machine(),
        "torch": torch.__version__,
        "runs": lines,
    }
    if source is not None:
        report["source"] = json.loads((source / "measured.json").read_text())
    for number in ("swd", "gap", "relative_gap"):
        values = {name: [line[number] for line in lines if line["case"] == name] for name in cases}
        report[number] = verdict(values)
        print(number, json.dumps(report[number], indent=1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"small-sets-{arguments.study}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
