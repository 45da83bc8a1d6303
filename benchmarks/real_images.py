"""What the metrics say of real images, where the answer is known, and what they cost.

    python benchmarks/real_images.py SOURCE … [--num 2000] [--json OUT]

The first `--num` images of a data set are the real ones. In the place of generated images stand others of it, in five
states: as they are, averaged over 3x3 pixels, without the last class (where there are classes), the first hundred
repeated; and the real images themselves. Seconds are of the processor, on one thread, the least of all states.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from training_step import machine

import progan
from progan.data.dataset import Dataset
from progan.images import to_images
from progan.metrics import METRICS, Setting, make

NAMES = ("ms_ssim_excess", "precision_recall", "density_coverage", "modes", "spectrum", "extremes")


def states(others: Tensor, reals: Tensor, last: Tensor | None, num: int) -> Iterator[tuple[str, Tensor]]:
    """Images uint8 [num, C, R, R] in the place of generated ones; `last` is true for others of the last class."""
    yield "other real images", others[:num]
    padded = F.pad(others[:num].float(), (1, 1, 1, 1), mode="replicate")
    yield "blurred", F.avg_pool2d(padded, 3, stride=1).round().to(torch.uint8)
    if last is not None:
        yield "without the last class", others[~last][:num]
    yield "a hundred repeated", others[:100].repeat(num // 100, 1, 1, 1)
    yield "copies", reals


def measure(name: str, reals: Tensor, fakes: Tensor) -> tuple[dict[str, float], float]:
    """Numbers of a metric, and processor seconds."""
    started = time.process_time()
    metric = make(name, Setting(resolution=reals.shape[-1]))
    for pixels, real in ((reals, True), (fakes, False)):
        for batch in pixels.split(128):
            metric.update(to_images(batch) if METRICS[name].unclipped else batch, real)
    return {key: value.value for key, value in metric.result().items()}, time.process_time() - started


def main() -> None:
    """Print a line for each state, and one for the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="what `progan prepare` takes")
    parser.add_argument("--num", type=int, default=2000, help="images of each kind, a multiple of 100")
    parser.add_argument("--prepared", type=Path, default=Path("scratch"), help="folder of prepared datasets")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, object] = {"machine": machine("cpu"), "torch": torch.__version__, "num": options.num}
    for source in options.sources:
        folder = options.prepared / Path(source).name.partition(".")[0]
        if not folder.exists():
            progan.prepare(source, folder)
        dataset, n = Dataset.open(folder), options.num
        resolution = max(dataset.resolutions)
        order = dataset.order(0, min(dataset.count, 3 * n), seed=0)
        pixels = torch.from_numpy(dataset.pixels(resolution, order))
        labels = dataset.labels(order[n:])
        last = None if labels is None else torch.from_numpy(labels[:, -1]).bool()
        said: dict[str, dict[str, float]] = {}
        seconds: dict[str, float] = {}
        for state, fakes in states(pixels[n:], pixels[:n], last, n):
            said[state] = {}
            for name in NAMES:
                values, took = measure(name, pixels[:n], fakes)
                said[state] |= values
                seconds[name] = min(took, seconds.get(name, took))
            print(folder.name, state, {name: round(value, 3) for name, value in said[state].items()}, flush=True)
        print(folder.name, {name: round(value, 2) for name, value in seconds.items()})
        report[folder.name] = {"resolution": resolution, "numbers": said, "seconds": seconds}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
