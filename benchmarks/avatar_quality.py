"""How good the generators of avatar runs are: attributes read by a classifier, and SWD with its floor.

The classifier learns from 20,000 avatars and is checked on 3,000 others; it is kept beside this file's results in the
folder `--cache`. Every snapshot of the runs is then asked for `--num` fakes. Reported:

- values: how many of the attribute values occur, each in at least a tenth of the share the data gives it;
- distance: total variation between the frequencies of an attribute's values in the fakes and in the data, averaged over
  the attributes, and the largest of them; `floor` is that of as many real avatars;
- swd: as `progan.metrics.swd` has it, beside that of reals against other reals.

    python benchmarks/avatar_quality.py RUN … [--num 4096] [--json OUT]
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

import progan
from progan.avatars import ATTRIBUTES, attributes, draw
from progan.files import write_whole
from progan.metrics import Setting
from progan.metrics.classifier import Classifier, groups
from progan.metrics.swd import SlicedWasserstein
from progan.snapshot import load
from progan.training.observers.run_files import read_stats

TRAINED, CHECKED = 20_000, 3_000
FIRST_CHECK, FIRST_REAL = 10_000_000, 20_000_000  # avatars no run has seen
SIZES = [len(values) for values in ATTRIBUTES.values()]
WANTED = [torch.tensor(list(values.values())) for values in ATTRIBUTES.values()]


def pixels_of(first: int, count: int, resolution: int) -> Tensor:
    """Avatars uint8 [count, 3, R, R]."""
    return torch.from_numpy(draw(range(first, first + count), resolution)).permute(0, 3, 1, 2).contiguous()


def targets_of(first: int, count: int) -> Tensor:
    """Number of each attribute's value, int64 [count, 10]."""
    return groups(torch.from_numpy(attributes(range(first, first + count))), SIZES)


def classifier(resolution: int, cache: Path) -> tuple[Classifier, dict[str, float]]:
    """The network, trained or taken from the cache, and the share of held-out avatars it reads right."""
    torch.manual_seed(0)
    path = cache / f"avatar-reader-{resolution}.safetensors"
    pixels = pixels_of(0, 0 if path.exists() else TRAINED, resolution)
    reader = trained(Classifier(resolution, 3, SIZES), pixels, targets_of(0, len(pixels)), path)
    right = reader.read(pixels_of(FIRST_CHECK, CHECKED, resolution)) == targets_of(FIRST_CHECK, CHECKED)
    return reader, dict(zip(ATTRIBUTES, right.float().mean(0).tolist(), strict=True))


def trained(reader: Classifier, pixels: Tensor, targets: Tensor, cache: Path) -> Classifier:
    """The reader after `learn`, taken from the file `cache` if it is there."""
    if cache.exists():
        reader.load_state_dict(safetensors.torch.load_file(cache))
    else:
        reader.learn(pixels, targets)
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, safetensors.torch.save(reader.state_dict()))
    return reader


def frequencies(values: Tensor) -> dict[str, float]:
    """Of attribute values int64 [N, 10]: how many occur, and how far their frequencies are from the data's."""
    occurring, distances = 0, []
    for column, wanted in zip(values.T, WANTED, strict=True):
        found = torch.bincount(column, minlength=len(wanted)) / len(column)
        occurring += int((found >= wanted / 10).sum())
        distances.append(float((found - wanted).abs().sum() / 2))
    return {"values": occurring, "of": sum(SIZES), "distance": sum(distances) / 10, "largest_distance": max(distances)}


def swd(reals: Tensor, others: Tensor) -> float:
    """Mean over the levels, times 1000."""
    metric = SlicedWasserstein(Setting())
    metric.update(reals, real=True)
    metric.update(others, real=False)
    return metric.result()["swd"].value


def describe(line: dict[str, Any]) -> str:
    """A report's line for people."""
    parts = [
        f"{line['run']:>16} {line['cur_nimg'] / 1000:6.1f} kimg {line['minutes']:5.1f} min",
        f"values {line['values']}/{line['of']}",
        f"distance {line['distance']:.3f} (worst {line['largest_distance']:.3f}, floor {line['distance_floor']:.3f})",
        f"swd {line['swd']:.1f} (floor {line['swd_floor']:.1f})",
        f"classifier right ≥ {100 * line['classifier_worst']:.1f} %",
    ]
    return "  ".join(parts)


def plot(report: list[dict[str, Any]], path: Path) -> None:
    """Distance and SWD against minutes, with their floors (needs matplotlib)."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axis, name, floor, title in zip(
        axes, ("distance", "swd"), ("distance_floor", "swd_floor"), ("attribute distance", "SWD"), strict=True
    ):
        for run in dict.fromkeys(line["run"] for line in report):
            lines = [line for line in report if line["run"] == run]
            axis.plot([line["minutes"] for line in lines], [line[name] for line in lines], marker="o", label=run)
        axis.axhline(report[0][floor], linestyle="--", color="grey", label="other reals")
        axis.set(title=title, xlabel="minutes of training", ylim=(0, None))
        axis.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print a line for every snapshot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--num", type=int, default=4096)
    parser.add_argument("--cache", type=Path, default=Path("scratch"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--from-resolution", type=int, default=32)
    options = parser.parse_args()
    report = []
    floors: dict[int, float] = {}
    for run in options.runs:
        elapsed = {line["cur_nimg"]: line["elapsed"] for line in read_stats(run / "stats.jsonl")}
        for path in sorted((run / "snapshots").glob("*.safetensors")):
            nimg, resolution = map(int, re.findall(r"-(\d+)-(\d+)x", path.name)[0])
            if resolution < options.from_resolution:
                continue
            reader, accuracy = classifier(resolution, options.cache)
            reals = pixels_of(FIRST_REAL, options.num, resolution)
            others = pixels_of(FIRST_REAL + options.num, options.num, resolution)
            floors.setdefault(resolution, swd(reals, others))
            snapshot = load(path)
            fakes = progan.to_pixels(snapshot.generate(snapshot.latents(range(options.num)), batch_size=256))
            line = {"run": run.name, "cur_nimg": nimg, "resolution": resolution, "minutes": elapsed[nimg] / 60}
            line |= frequencies(reader.read(fakes)) | {"swd": swd(reals, fakes), "swd_floor": floors[resolution]}
            line |= {"distance_floor": frequencies(reader.read(others))["distance"]}
            line["classifier_worst"] = min(accuracy.values())
            report.append(line)
            print(describe(line), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        plot(report, options.plot)


if __name__ == "__main__":
    main()
