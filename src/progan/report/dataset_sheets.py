"""Contact sheets: many small pictures on one."""

import math
import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.data.dataset import Dataset
from progan.data.inspection import label_members

_WIDTH = 1024
_GAP = 2
_LEAST_TILE = 32  # smaller pictures are shown enlarged, pixel by pixel
_PER_LABEL = 24
_LABEL_SIDE = 64
_MOST_LABELS = 200


def sheets(dataset: Dataset, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """Name and picture of a sheet per resolution, of the same images as far as they fit, and of one per label."""
    for resolution in dataset.resolutions:
        columns = max(2, _WIDTH // (_tile(resolution) + _GAP))
        shown = dataset.order(0, min(dataset.count, columns * math.ceil(columns / 2)), seed)
        yield f"resolution-{resolution:04d}", sheet(dataset, resolution, shown, columns)
    side = min(_LABEL_SIDE, dataset.resolutions[-1])
    random = np.random.default_rng(seed)
    members = label_members(dataset).items()
    for number, (name, indices) in enumerate(members):
        if len(indices) and number < _MOST_LABELS:
            shown = random.permutation(indices)[:_PER_LABEL]
            yield f"label-{number:03d}-{_file_name(name)}", sheet(dataset, side, shown, _PER_LABEL // 2)


def sheet(dataset: Dataset, resolution: int, indices: npt.NDArray[np.int64], columns: int) -> Image.Image:
    """The images row by row on white, small ones enlarged."""
    tile = _tile(resolution)
    pixels = dataset.pixels(resolution, indices).transpose(0, 2, 3, 1)  # [n, R, R, C]
    pixels = pixels.repeat(tile // resolution, 1).repeat(tile // resolution, 2)
    n, _, _, channels = pixels.shape
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    cells = np.full((rows * columns, tile + _GAP, tile + _GAP, channels), 255, np.uint8)
    cells[:n, :tile, :tile] = pixels
    page = cells.reshape(rows, columns, tile + _GAP, tile + _GAP, channels).swapaxes(1, 2)
    page = page.reshape(rows * (tile + _GAP), columns * (tile + _GAP), channels)[:-_GAP, :-_GAP]
    return Image.fromarray(page[:, :, 0] if channels == 1 else page)


def _tile(resolution: int) -> int:
    """Pixels of a picture's side on the sheet."""
    return max(_LEAST_TILE, resolution)


def _file_name(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label)[:40]
