"""Pictures, films and searches for the page: one at a time, in the order in which they were asked for.

Everything that computes runs in one thread. A long job lets the pictures that wait go first, between two of its steps.
torch is imported by the first job, so that the page opens before.
"""

import base64
import tempfile
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from progan.errors import DatasetError, ProganError
from progan.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from progan.snapshot import Snapshot

T = TypeVar("T")
MOST_WAITING = 256
"""Jobs that may wait."""
MOST_LONG = 3
"""Films and searches among them."""
MOST_LOADED = 3
"""Snapshots that are kept in memory."""
MOST_PIXELS = 50_000_000
"""Pixels of a picture to be found: more are not decoded."""
KINDS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}
FILM_TYPES = {"webp": "image/webp", "mp4": "video/mp4"}
"""Suffix of a film that the page can ask for -> its media type."""
FILM_SIDE, FILM_FRAMES, FILM_FPS = 256, 45, 20
"""Pixels of a side of a film at least; frames from one picture to the other; frames a second."""
NEIGHBOURS = 4
STEPS = 300
_SHOW_EVERY = 5  # steps of a search


class BusyError(ProganError):
    """Raised where too many jobs wait already, or others have the memory."""


class StoppedError(Exception):
    """Ends a search that nobody waits for any more."""


@dataclass(frozen=True)
class Wish:
    """A picture: `Wish` of page/engine.js."""

    seed: int
    to: int | None = None
    t: float = 0.0
    truncation: float = 1.0
    label: str = ""
    to_label: str = ""
    row: int = 0

    @property
    def moves(self) -> bool:
        """True for a picture on the way from one to another."""
        return self.to is not None or bool(self.to_label)


class Studio:
    """The thread that computes, and the snapshots that it has loaded."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: OrderedDict[tuple[Path, int], Snapshot] = OrderedDict()
        self._short, self._long = deque[Callable[[], None]](), deque[Callable[[], None]]()
        self._ready = threading.Condition()
        threading.Thread(target=self._work, daemon=True, name="pictures").start()

    def do(self, job: Callable[[], T], long: bool = False) -> "Future[T]":
        """The job's result, some time. Raises BusyError if too many wait."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(_in_words(error))

        with self._ready:
            if len(self._short) + len(self._long) >= MOST_WAITING or (long and len(self._long) >= MOST_LONG):
                raise BusyError("too many are waiting for pictures: try again soon")
            (self._long if long else self._short).append(run)
            self._ready.notify()
        return future

    def let_others_go_first(self) -> None:
        """Called by a long job, between two steps: does the short ones that wait."""
        while True:
            with self._ready:
                if not self._short:
                    return
                job = self._short.popleft()
            job()

    def _work(self) -> None:
        while True:
            with self._ready:
                while not (self._short or self._long):
                    self._ready.wait()
                job = (self._short or self._long).popleft()
            job()

    # What follows runs in that thread.

    def snapshot(self, path: Path) -> "Snapshot":
        """The snapshot of a file, loaded on the device. Raises SnapshotError."""
        from progan.devices import find_device
        from progan.sampling import load

        key = path, path.stat().st_mtime_ns
        if key not in self._loaded:
            while len(self._loaded) >= MOST_LOADED:
                self._loaded.popitem(last=False)
            self._loaded[key] = load(path).to(find_device(self._device))
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def picture(self, path: Path, wish: Wish) -> tuple[bytes, int, float]:
        """Pixels of RGB, row by row, and the number of them on a side: those of `progan sample`; and its seconds."""
        snapshot = self.snapshot(path)
        begun = time.perf_counter()  # neither waiting nor loading is part of a picture's time
        pixels = self._pixels(snapshot, wish)
        return _rgb(pixels), pixels.shape[-1], time.perf_counter() - begun

    def film(self, path: Path, wish: Wish, kind: str) -> bytes:
        """A film of a kind in FILM_TYPES from the wish's first picture to its second, and back.

        Raises ConfigError where the package that writes an MP4 is missing.
        """
        from progan.images import upscale
        from progan.progress import silent
        from progan.sampling.films import write_film

        snapshot = self.snapshot(path)
        factor = max(1, FILM_SIDE // snapshot.resolution)

        def frames() -> Iterator["Tensor"]:
            # Each picture once; the way back is the way there, without its ends.
            made: list[Tensor] = []
            for i in range(FILM_FRAMES):
                self.let_others_go_first()
                pixels = self._pixels(snapshot, replace(wish, t=i / (FILM_FRAMES - 1)))
                made.append(upscale(pixels[None].float(), factor)[0].to(pixels.dtype))
                yield made[-1]
            yield from reversed(made[1:-1])

        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / f"film.{kind}"
            write_film(file, frames(), FILM_FPS, silent)
            return file.read_bytes()

    def _pixels(self, snapshot: "Snapshot", wish: Wish) -> "Tensor":
        """Pixels uint8 [C, R, R]."""
        from progan.sampling.interpolation import show, slerp

        z = snapshot.latents([wish.seed])
        if wish.to is not None:
            z = slerp(z, snapshot.latents([wish.to]), wish.t)
        labels = _label_row(snapshot, wish, wish.label)
        if labels is not None and wish.to_label:
            # An attribute that the end does not name is that of the start.
            attributes = snapshot.info.label_kind == "attributes"
            end = _label_row(snapshot, wish, f"{wish.label},{wish.to_label}" if attributes else wish.to_label)
            labels = labels.lerp(end, wish.t)
        return show(snapshot, (z, labels), wish.truncation)[0]

    def search(
        self, folder: RunFolder | None, path: Path, picture: bytes, label: str, reals: bool, tell: Callable[[Any], None]
    ) -> None:
        """Tell what a search finds: its target, the nearest image every few steps, and the training images near it.

        Discriminator and training images are those of the run's folder; of a snapshot alone, what it holds itself.

        `tell` gets objects for JSON, and raises StoppedError where nobody listens. Raises DatasetError for what is no
        picture.
        """
        from progan.data.dataset import Manifest
        from progan.metrics.nearest import nearest_in_training, training_images
        from progan.progress import silent
        from progan.run.networks import load
        from progan.sampling.finding import find, read_picture

        snapshot, critic = self.snapshot(path), None
        try:  # the discriminator of a run is at the resolution of its newest state
            critic = load(path if folder is None else folder.path, network="D").to(snapshot.device)
        except ProganError:
            why = "the run has no training state that can be read" if folder else "the snapshot does not hold it"
            tell({"note": f"without the discriminator's features: {why}"})
        if critic is not None and critic.resolution != snapshot.resolution:
            critic = None
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / f"picture{_kind(picture)}"
            file.write_bytes(picture)
            target = read_picture(file, snapshot.resolution, snapshot.info.shape.channels)
        tell({"target": _image(target), "side": snapshot.resolution})
        names = [label] if label else range(snapshot.G.label_size) if snapshot.info.label_kind == "class" else [""]
        labels = snapshot.labels(names) if snapshot.G.label_size else None

        def watch(step: int, pixels: "Tensor") -> None:
            self.let_others_go_first()
            if step % _SHOW_EVERY == 0:
                tell({"step": step, "of": STEPS, "best": _image(pixels)})

        found = find(snapshot, target, labels, critic, STEPS, watch=watch)
        near, data = None, folder.read()[1].path if folder else ""
        if folder and reals and Manifest.is_in(Path(data)):  # they are not prepared anew for this
            shape = snapshot.info.shape
            images = training_images(folder.path, data, snapshot.resolution, shape.channels, silent)
            near = None if images is None else nearest_in_training(found.pixels, images, NEIGHBOURS)
        facts: dict[str, Any] = {
            "z": found.z.tolist(),
            "labels": None if found.labels is None else found.labels.tolist(),
        }
        facts |= {"snapshot": snapshot.digest, "distance": found.distance, "random_distance": found.random_distance}
        tell(
            {
                "found": _image(found.pixels),
                "near": [_image(each) for each in (() if near is None else near)],
                "latent": facts,
            }
        )


def _in_words(error: BaseException) -> BaseException:
    """The error of a job, in words where the memory is too small for it."""
    from progan.devices import is_out_of_memory

    if not is_out_of_memory(error):
        return error
    return BusyError("there is not enough memory for this now: end what else uses it, or start with --device cpu")


def _label_row(snapshot: "Snapshot", wish: Wish, label: str) -> Any:
    """Label rows float32 [1, L]; None for a generator without labels. Raises SnapshotError for an unknown label."""
    if snapshot.info.label_kind == "attributes":  # an attribute that is not named is that of a row of the data
        return snapshot.labels([label], [wish.row])
    return snapshot.labels([label or 0]) if snapshot.G.label_size else None


def dataset_page(folder: RunFolder) -> str:
    """The page of a run's images, as `progan data show --html` writes it. Raises a ProganError if they are gone."""
    from progan.data.dataset import Dataset, Manifest
    from progan.data.inspection import facts, inspect
    from progan.report.dataset_page import page

    place = Path(folder.read()[1].path)
    if not Manifest.is_in(place):
        raise DatasetError(f"the prepared images of this run are no longer in {place}")
    dataset = Dataset.open(place)
    inspection = inspect(dataset)
    return page(dataset, inspection, facts(inspection))


def _kind(picture: bytes) -> str:
    """Suffix of a picture's file. Raises DatasetError for what is none, or is too large to be decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(picture), formats=list(KINDS)) as image:
            width, height = image.size
            kind = KINDS[str(image.format)]
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError):
        raise DatasetError(f"this is no picture that can be read: {', '.join(KINDS)} are") from None
    if width * height > MOST_PIXELS:
        raise DatasetError(f"this picture has {width}x{height} pixels; at most {MOST_PIXELS:,} are decoded")
    return kind


def _rgb(pixels: "Tensor") -> bytes:
    """Pixels uint8 [C, R, R] as R·R·3 bytes; grey ones three times."""
    return pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy().tobytes()


def _image(pixels: "Tensor") -> str:
    """The same, for JSON."""
    return base64.b64encode(_rgb(pixels)).decode()
