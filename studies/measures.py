"""Numbers that the studies ask for beside those of `progan compare`: from a run's statistics, and from its images."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from progan.images import to_pixels
from progan.metrics.extremes import MILLION, isolated
from progan.report.history import Stats, at_resolution, collapses, ms_ssim_excess, with_training_time

NUM = 1024
"""Images that are looked at, of each kind."""
NAN = math.nan

# From stats.jsonl


def collapse_counts(stats: Stats) -> dict[str, float]:
    """`collapses` seen in a run, the `recovered` fraction of them (NaN of none), `collapsed_at_end` 0 or 1."""
    found = collapses(stats)
    last = max((line["resolution"] for line in stats), default=0)
    lost = any(not event.recovered and event.resolution == last for event in found)
    recovered = fmean(event.recovered for event in found) if found else NAN
    return {"collapses": len(found), "recovered": recovered, "collapsed_at_end": float(lost)}


def variety(stats: Stats) -> dict[str, float]:
    """`excess_end` and `excess_worst`: of (MS-SSIM - baseline) / (1 - baseline) of G, at the last resolution.

    0: as varied as real images, 1: all images are the same. NaN where nothing was measured.
    """
    resolution = max((line["resolution"] for line in stats), default=0)
    found = [excess(line) for line in at_resolution(stats, resolution) if "metrics/G/ms_ssim" in line]
    return {"excess_end": found[-1] if found else NAN, "excess_worst": max(found, default=NAN)}


def excess(line: Mapping[str, Any]) -> float:
    """Of one measurement."""
    return ms_ssim_excess(float(line["metrics/G/ms_ssim"]), float(line["metrics/floor/ms_ssim"]))


def loss_jumps(stats: Stats) -> dict[str, float]:
    """`jump_D` and `jump_G`: the mean change of the loss from the tick before a layer is added to the one after, as a
    multiple of the median change between ticks of one stage. NaN where nothing is added or ticks are too few.
    """
    found = {}
    for network in ("D", "G"):
        jumps, usual = [], []
        for before, after in pairwise(stats):
            change = abs(loss(after, network) - loss(before, network))
            if before["resolution"] != after["resolution"]:
                jumps.append(change)
            elif before["phase"] == after["phase"]:
                usual.append(change)
        small = median(usual) if usual else NAN
        found[f"jump_{network}"] = fmean(jumps) / small if jumps and small > 0 else NAN
    return found


def loss(line: Mapping[str, Any], network: str) -> float:
    """Sum of a network's terms at a tick: what its step makes smaller."""
    return sum(float(value) for name, value in line.items() if name.startswith(f"{network}/") and "sign" not in name)


def seconds_to(runs: Sequence[Stats], factor: float) -> list[dict[str, float]]:
    """Of each run of a model, `reached` 0 or 1, and `seconds_to_swd` of training (NaN if never): until the average of G
    has an SWD of at most `factor` times the real-vs-real baseline at the last resolution.

    At the highest speed of each stage over the ticks of all runs, so that what else the machine did does not count.
    """
    fastest: dict[tuple[int, str], float] = defaultdict(float)
    for line in chain(*runs):
        stage = line["resolution"], line["phase"]
        fastest[stage] = max(fastest[stage], line["img_per_sec"])
    found = []
    for stats in runs:
        steady = [{**line, "img_per_sec": fastest[line["resolution"], line["phase"]]} for line in stats]
        resolution = max((line["resolution"] for line in stats), default=0)
        near = [
            float(line["trained"])
            for line in at_resolution(with_training_time(steady), resolution)
            if "metrics/G_ema/swd" in line and line["metrics/G_ema/swd"] <= factor * line["metrics/floor/swd"]
        ]
        found.append({"reached": float(bool(near)), "seconds_to_swd": near[0] if near else NAN})
    return found


def timeline(stats: Stats) -> dict[str, list[Any]]:
    """Columns of what is shown over time: a line for each tick; null where nothing was measured."""
    rows = [
        {
            "kimg": round(line["cur_nimg"] / 1000, 3),
            "resolution": line["resolution"],
            "swd": line.get("metrics/G/swd"),
            "excess": excess(line) if "metrics/G/ms_ssim" in line else None,
            "loss_D": loss(line, "D"),
            "loss_G": loss(line, "G"),
        }
        for line in stats
    ]
    digits = [{name: v if v is None or v != v else float(f"{v:.5g}") for name, v in row.items()} for row in rows]
    return {name: [row[name] for row in digits] for name in (rows[0] if rows else ())}


# From images


def faults(images: Tensor, reals: Tensor) -> dict[str, float]:
    """What two ways of writing the same images make of them.

    `images` float [N, C, R, R], not clipped, `reals` pixels uint8 [M, C, R, R]. `isolated_clipped` and
    `isolated_wrapped`: single black or white values per million, of images that are clipped, and of those of which a
    cast to uint8 keeps the lowest 8 bits. `outside`: values per million that clipping changes. `constant_energy`: mean
    square of what differs from reals where all of these are the same, in grey levels² (NaN if they are nowhere).
    """
    pixels, values = to_pixels(images), rounded(images)
    return {
        "isolated_clipped": MILLION * float(isolated(pixels).double().mean()),
        "isolated_wrapped": MILLION * float(isolated(wrapped(images)).double().mean()),
        "outside": MILLION * float(((values < 0) | (values > 255)).double().mean()),
        "constant_energy": constant_energy(pixels, reals),
    }


def rounded(images: Tensor) -> Tensor:
    """Grey levels of images, 0 … 255 and beyond, as an image writer rounds them."""
    return ((images.float() + 1) * (255 / 2)).round()


def wrapped(images: Tensor) -> Tensor:
    """Images as pixels uint8 by a cast that keeps the lowest 8 bits: 256 becomes 0, -1 becomes 255."""
    return rounded(images).remainder(256).to(torch.uint8)


def constant_energy(pixels: Tensor, reals: Tensor) -> float:
    """Mean square of pixels uint8 less the reals' value, over the places where all reals have one value."""
    lowest, highest = reals.amin(0), reals.amax(0)
    places = lowest == highest
    if not places.any():
        return NAN
    return float((pixels.double() - lowest.double())[:, places].square().mean())


def of_statistics(stats: Stats) -> dict[str, float]:
    """All numbers that follow from a run's statistics alone."""
    return {**collapse_counts(stats), **variety(stats), **loss_jumps(stats)}


def of_images(networks: Mapping[str, Tensor], reals: Tensor) -> dict[str, float]:
    """`faults` of each network's images: `G_ema/isolated_clipped` …"""
    return {f"{name}/{key}": value for name, images in networks.items() for key, value in faults(images, reals).items()}


def finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
