"""How well faces are found and aligned: precision, recall, scatter of the eyes, pictures a second.

On every fifth of the 500 photographs of faces-raw-500.zip, in which docs/measured/faces-labels.csv marks the face, and
on pictures pasted together from several of them. A face is found where a detection covers it with an intersection over
union of at least 0.5. The eyes of 16 photographs were marked by hand in enlarged crops, to about a pixel of 128.

    python benchmarks/faces.py faces-raw-500.zip [--nothing cifar10-train-jpg.zip] [--json OUT]
"""

import argparse
import csv
import io
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from progan.config import PrepareConfig
from progan.data.prepare import prepare
from progan.data.prepare.faces import CELEBA_EYES, CELEBA_SQUARE, Face, FaceCrop, Square, cut, find_faces, square_of

LABELS = Path(__file__).parents[1] / "docs" / "measured" / "faces-labels.csv"
AT_ONCE = 16
EYES = np.array(CELEBA_EYES) - CELEBA_SQUARE[:2]

Marked = tuple[Image.Image, list[np.ndarray]]
"""A picture and the boxes of its faces."""


def found(pictures: list[Image.Image], options: FaceCrop) -> list[list[Face]]:
    """The faces of each picture."""
    parts = [find_faces(pictures[at : at + AT_ONCE], options, "cpu") for at in range(0, len(pictures), AT_ONCE)]
    return [each if isinstance(each, list) else [] for part in parts for each in part]


def overlap(one: Any, two: Any) -> float:
    """Intersection over union of two boxes."""
    one, two = np.asarray(one, float), np.asarray(two, float)
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    common = np.prod(np.maximum(sides, 0))
    return float(common / (np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2]) - common))


def score(marked: list[Marked], options: FaceCrop) -> dict[str, Any]:
    """Precision and recall of the detector."""
    faces = right = detected = 0
    for (picture, boxes), detections in zip(marked, found([each[0] for each in marked], options), strict=True):
        left = list(boxes)
        for face in detections:
            box = np.clip(face.box, 0, [*picture.size, *picture.size])
            best = max(left, key=lambda other: overlap(box, other), default=None)
            if best is not None and overlap(box, best) >= 0.5:
                left = [other for other in left if other is not best]
                right += 1
        detected, faces = detected + len(detections), faces + len(boxes)
    return {"pictures": len(marked), "faces": faces, "detected": detected, "right": right,
            "precision": round(right / max(1, detected), 4), "recall": round(right / faces, 4)}  # fmt: skip


def pasted(marked: list[Marked], count: int) -> list[Marked]:
    """Pictures of 800x600 with two to eight of the photographs, 50 to 260 pixels high, that do not overlap."""
    rng, results = np.random.default_rng(0), []
    for _ in range(count):
        canvas = Image.new("RGB", (800, 600), tuple(rng.integers(0, 256, 3).tolist()))
        places, boxes = list[np.ndarray](), list[np.ndarray]()
        wanted = rng.integers(2, 9)
        for _ in range(200):
            picture, (box, *_) = marked[rng.integers(len(marked))]
            height = int(rng.integers(50, 261))
            width = max(1, round(picture.width * height / picture.height))
            if width >= 800:
                continue
            x, y = int(rng.integers(0, 800 - width)), int(rng.integers(0, 600 - height))
            place = np.array([x, y, x + width, y + height])
            if len(places) < wanted and all(overlap(place, other) == 0 for other in places):
                canvas.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (x, y))
                places.append(place)
                boxes.append(box * height / picture.height + [x, y, x, y])
        results.append((canvas, boxes))
    return results


def inside(points: np.ndarray, square: Square) -> np.ndarray:
    """Points [n, 2] of a picture as pixels of the square's 128x128."""
    right = np.array(square.right) / (square.side / 2)
    offset = (points - square.centre) * 128 / square.side
    return np.stack([offset @ right, offset @ [-right[1], right[0]]], 1) + 64


def scatter(offsets: list[np.ndarray]) -> dict[str, Any]:
    """Mean and standard deviation of offsets [n, 2, 2] of both eyes, in pixels of 128x128."""
    every = np.array(offsets).reshape(-1, 2)
    distances = np.linalg.norm(every, axis=1)
    return {"eyes": len(every), "mean": every.mean(0).round(2).tolist(), "deviation": every.std(0).round(2).tolist(),
            "median distance": round(float(np.median(distances)), 2),
            "90 % below": round(float(np.quantile(distances, 0.9)), 2)}  # fmt: skip


def main() -> None:
    """Print everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--nothing", type=Path, help="a zip of small pictures without faces")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    archive = zipfile.ZipFile(options.source)
    names = sorted(name for name in archive.namelist() if not name.endswith("/"))
    marked, eyes = list[Marked](), dict[int, np.ndarray]()
    for row in csv.DictReader(LABELS.open(encoding="utf-8")):
        picture = Image.open(io.BytesIO(archive.read(names[int(row["picture"])]))).convert("RGB")
        if row["eye0_x"]:
            eyes[len(marked)] = np.array([[row["eye0_x"], row["eye0_y"]], [row["eye1_x"], row["eye1_y"]]], float)
        marked.append((picture, [np.array([float(row[edge]) for edge in ("left", "top", "right", "bottom")])]))
    every = FaceCrop(faces="all")
    result: dict[str, Any] = {
        "photographs": score(marked, every),
        "pasted": score(pasted(marked, 100), every),
    }
    # Where the eyes are in the crops: those marked by hand, and those that are found in the crop itself.
    detections = found([picture for picture, _ in marked], FaceCrop())
    for align in ("celeba", "ffhq", "none"):
        crop = FaceCrop(align=align, margin=0.0)
        squares = [square_of(faces[0], crop) if faces else None for faces in detections]
        by_hand = [inside(eyes[at], square) - EYES for at, square in enumerate(squares) if at in eyes and square]
        crops = [cut(picture, square, 128) for (picture, _), square in zip(marked, squares, strict=True) if square]
        again = [np.array(faces[0].points[:2]) - EYES for faces in found(crops, FaceCrop()) if faces]
        if align == "ffhq":  # which has no fixed places for them: about their means
            by_hand, again = (list(np.array(some) - np.mean(some, 0)) for some in (by_hand, again))
        result[f"eyes, {align}"] = {"by hand": scatter(by_hand), "found again": scatter(again)}
    if options.nothing:
        small = zipfile.ZipFile(options.nothing)
        files, rng, collages = (
            [name for name in small.namelist() if name.endswith(".jpg")],
            np.random.default_rng(0),
            [],
        )
        for _ in range(20):
            collage = Image.new("RGB", (480, 480))
            for at, file in enumerate(rng.choice(files, 25)):
                tile = (
                    Image.open(io.BytesIO(small.read(file))).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC)
                )
                collage.paste(tile, (at % 5 * 96, at // 5 * 96))
            collages.append(collage)
        sure = {limit: found(collages, FaceCrop(faces="all", min_confidence=limit)) for limit in (0.7, 0.8, 0.9)}
        result["false among 500 small pictures"] = {limit: sum(map(len, faces)) for limit, faces in sure.items()}
    # The whole of preparation, in this process.
    with tempfile.TemporaryDirectory() as folder:
        started, processor = time.perf_counter(), time.process_time()
        report = prepare(options.source, Path(folder) / "out", PrepareConfig(crop="faces", resolution=64, workers=1))
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    result["prepare"] = {
        "pictures": report.read,
        "images": report.count,
        "skipped": dict(report.skipped),
        "seconds": round(seconds, 1),
        "pictures a second of processor time": round(report.read / processor, 1),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
