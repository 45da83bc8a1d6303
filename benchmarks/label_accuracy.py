"""Do fakes show the labels they were asked for? A classifier trained on the real images reads them.

Of classes: the share of the fakes of each class that are read as it. Of attributes: for every value, the share of fakes
asked for it that are read as having it, everything else being as in the data. Beside it the same share of held-out
reals, which is what the classifier itself gets right.

    python benchmarks/label_accuracy.py RUN DATASET [--each 500] [--json OUT]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from avatar_quality import trained
from torch import Tensor

import progan
from progan.data.dataset import Dataset
from progan.metrics.classifier import Classifier, group_sizes, groups
from progan.sampling.pictures import Drawing

HELD_OUT = 5000


def images(dataset: Dataset, resolution: int, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pixels uint8 [n, C, R, R] and labels float32 [n, L]."""
    labels = dataset.labels(indices)
    assert labels is not None
    return torch.from_numpy(dataset.pixels(resolution, indices)), torch.from_numpy(labels)


def main() -> None:
    """Print a line for every label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--each", type=int, default=500)
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--cache", type=Path, default=Path("scratch"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    snapshot, dataset = progan.load(options.run), Dataset.open(options.dataset)
    resolution, names = snapshot.resolution, tuple(snapshot.info.label_names)
    sizes = group_sizes(dataset, "label_accuracy")
    order = dataset.order(0, min(dataset.count, options.train + HELD_OUT), seed=1)
    pixels, rows = images(dataset, resolution, order)
    held = slice(len(order) - HELD_OUT, None)
    torch.manual_seed(0)
    reader = Classifier(resolution, dataset.channels, sizes)
    cache = options.cache / f"reader-{dataset.fingerprint[:8]}-{resolution}.safetensors"
    trained(reader, pixels[:-HELD_OUT], groups(rows[:-HELD_OUT], sizes), cache)
    right = reader.read(pixels[held]) == groups(rows[held], sizes)
    group_of = [group for group, size in enumerate(sizes) for _ in range(size)]
    first = np.cumsum([0, *sizes])
    shares = {}
    for number, name in enumerate(names):
        group = group_of[number]
        seeds = range(number * options.each, (number + 1) * options.each)
        fakes = torch.cat(list(Drawing(snapshot, seeds, [name] * options.each).pixels(batch_size=250)))
        read = reader.read(fakes)[:, group] == number - int(first[group])
        of_reals = right[rows[held][:, number] == 1]
        shares[name] = (float(read.float().mean()), float(of_reals[:, group].float().mean()))
        print(f"{name:>24}  fakes {100 * shares[name][0]:5.1f} %   reals {100 * shares[name][1]:5.1f} %", flush=True)
    mean = [sum(share) / len(shares) for share in zip(*shares.values(), strict=True)]
    print(f"{'mean':>24}  fakes {100 * mean[0]:5.1f} %   reals {100 * mean[1]:5.1f} %")
    if options.json:
        options.json.write_text(json.dumps({"run": options.run.name, "each": options.each, "shares": shares}, indent=1))


if __name__ == "__main__":
    main()
