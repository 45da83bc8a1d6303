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
from torch import Tensor, nn

import progan
from progan.data.avatars import ATTRIBUTES, attributes, draw
from progan.metrics.swd import SlicedWasserstein
from progan.snapshot import load
from progan.training.observers import read_stats

TRAINED, CHECKED = 20_000, 3_000
FIRST_CHECK, FIRST_REAL = 10_000_000, 20_000_000  # avatars no run has seen
SIZES = [len(values) for values in ATTRIBUTES.values()]
WANTED = [torch.tensor(list(values.values())) for values in ATTRIBUTES.values()]


def pixels_of(first: int, count: int, resolution: int) -> Tensor:
    """Avatars uint8 [count, 3, R, R]."""
    return torch.from_numpy(draw(range(first, first + count), resolution)).permute(0, 3, 1, 2).contiguous()


def targets_of(first: int, count: int) -> Tensor:
    """Number of each attribute's value, int64 [count, 10]."""
    rows = torch.from_numpy(attributes(range(first, first + count)))
    return torch.stack([block.argmax(1) for block in rows.split(SIZES, 1)], 1)


def network(resolution: int) -> nn.Sequential:
    """Six convolutions and a head with one logit for every value."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    body = [*block(3, 24, 1), *block(24, 48, 2), *block(48, 48, 1), *block(48, 96, 2), *block(96, 96, 1)]
    flat = 128 * (resolution // 8) ** 2
    head = [nn.Flatten(), nn.Linear(flat, 256), nn.ReLU(), nn.Linear(256, sum(SIZES))]
    return nn.Sequential(*body, *block(96, 128, 2), *head)


def read(net: nn.Module, pixels: Tensor) -> Tensor:
    """The value of every attribute the classifier sees: uint8 [N, 3, R, R] -> int64 [N, 10]."""
    with torch.no_grad():
        logits = torch.cat([net(progan.to_images(part)) for part in pixels.split(500)])
    return torch.stack([block.argmax(1) for block in logits.split(SIZES, 1)], 1)


def classifier(resolution: int, cache: Path, epochs: int = 6) -> tuple[nn.Module, dict[str, float]]:
    """The network, trained or taken from the cache, and the share of held-out avatars it reads right."""
    torch.manual_seed(0)
    net, path = network(resolution), cache / f"avatar-classifier-{resolution}.safetensors"
    if path.exists():
        net.load_state_dict(safetensors.torch.load_file(path))
    else:
        learn(net, pixels_of(0, TRAINED, resolution), targets_of(0, TRAINED), epochs)
        cache.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(net.state_dict(), path)
    right = read(net.eval(), pixels_of(FIRST_CHECK, CHECKED, resolution)) == targets_of(FIRST_CHECK, CHECKED)
    return net, dict(zip(ATTRIBUTES, right.float().mean(0).tolist(), strict=True))


def learn(net: nn.Module, pixels: Tensor, targets: Tensor, epochs: int, batch: int = 100) -> None:
    """Cross-entropy of every attribute, one learning-rate cycle."""
    steps = epochs * len(pixels) // batch
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(pixels)).split(batch):
            logits = net(progan.to_images(pixels[rows])).split(SIZES, 1)
            losses = [nn.functional.cross_entropy(out, targets[rows, i]) for i, out in enumerate(logits)]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
            schedule.step()


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
    metric = SlicedWasserstein()
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


def main() -> None:
    """Print a line for every snapshot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--num", type=int, default=4096)
    parser.add_argument("--cache", type=Path, default=Path("scratch"))
    parser.add_argument("--json", type=Path)
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
            net, accuracy = classifier(resolution, options.cache)
            reals = pixels_of(FIRST_REAL, options.num, resolution)
            others = pixels_of(FIRST_REAL + options.num, options.num, resolution)
            floors.setdefault(resolution, swd(reals, others))
            snapshot = load(path)
            fakes = progan.to_pixels(snapshot.generate(snapshot.latents(range(options.num)), batch_size=256))
            line = {"run": run.name, "cur_nimg": nimg, "resolution": resolution, "minutes": elapsed[nimg] / 60}
            line |= frequencies(read(net, fakes)) | {"swd": swd(reals, fakes), "swd_floor": floors[resolution]}
            line |= {"distance_floor": frequencies(read(net, others))["distance"]}
            line["classifier_worst"] = min(accuracy.values())
            report.append(line)
            print(describe(line), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
