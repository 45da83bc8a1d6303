"""Generated images as PNG files that say where they come from."""

import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, PngImagePlugin
from torch import Tensor

from progan import snapshot
from progan.errors import SnapshotError
from progan.files import write_whole
from progan.images import grid, to_pixels
from progan.runfolder import RunFolder
from progan.snapshot import Snapshot


def load(path: str | os.PathLike[str], resolution: int | None = None) -> Snapshot:
    """The snapshot of a run folder (the newest, or that of a resolution) or of a .safetensors file.

    Raises SnapshotError if there is none.
    """
    path = Path(path)
    if not path.exists():
        raise SnapshotError(f"{path} does not exist. Give a run folder or a snapshot (RUN/snapshots/….safetensors)")
    return snapshot.load(RunFolder(path).snapshot(resolution) if path.is_dir() else path)


def generate(
    source: Snapshot,
    seeds: Sequence[int],
    labels: Sequence[str] = (),
    truncation: float = 1.0,
    resolution: int | None = None,
    batch_size: int = 32,
) -> Iterator[Tensor]:
    """Pixels uint8 [n, C, R, R] of the seeds, a batch at a time; several labels take turns."""
    if source.info.label_names and not labels:
        labels = source.info.label_names if source.info.label_kind == "class" else ()
    for i in range(0, len(seeds), batch_size):
        some = seeds[i : i + batch_size]
        rows = source.labels(labels[(i + j) % len(labels)] for j in range(len(some))) if labels else None
        yield to_pixels(source.generate(source.latents(some), rows, truncation, resolution)).cpu()


def write_grid(path: Path, source: Snapshot, seeds: Sequence[int], pixels: Tensor, columns: int) -> None:
    """One PNG of pixels uint8 [N, C, R, R]."""
    write_whole(path, png(grid(pixels, columns), source, seeds))


def write_files(folder: Path, source: Snapshot, seeds: Sequence[int], batches: Iterator[Tensor]) -> None:
    """A PNG `seed-0000007.png` for every seed."""
    folder.mkdir(parents=True, exist_ok=True)
    names = iter(seeds)
    for pixels in batches:
        for image in pixels:
            seed = next(names)
            write_whole(folder / f"seed-{seed:07d}.png", png(image, source, [seed]))


def png(pixels: Tensor, source: Snapshot, seeds: Sequence[int]) -> bytes:
    """Pixels uint8 [C, H, W] as a PNG whose text fields name seeds and snapshot."""
    text = PngImagePlugin.PngInfo()
    text.add_text("seed", ",".join(map(str, seeds)))
    text.add_text("snapshot", source.digest)
    text.add_text("Software", "progan")
    if source.info.licence:
        text.add_text("Copyright", source.info.licence)
    array = pixels.permute(1, 2, 0).numpy()
    file = BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "png", pnginfo=text)
    return file.getvalue()
