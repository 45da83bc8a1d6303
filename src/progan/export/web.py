"""A page that makes pictures in the browser: a static folder with the generators, and onnxruntime-web to run them."""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import progan
from progan.commands import WebConfig
from progan.data.cache import cache_folder
from progan.errors import ExportError
from progan.export import onnx
from progan.export.card import remove_earlier, write_card
from progan.export.source import Source
from progan.files import write_whole
from progan.images import pil_image
from progan.progress import Log
from progan.sampling.pictures import Drawing, default_labels
from progan.snapshot import Snapshot

FORMAT, VERSION = "progan web", 1
PACKAGE, PINNED = "onnxruntime-web", "1.30.0"
_MODULE, _BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_GPU_MODULE, _GPU_BINARY = "ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"
HASHES = {
    _MODULE: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    _BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    _GPU_MODULE: "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    _GPU_BINARY: "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
"""SHA-256 of each file of the pinned version that is used: what is fetched is this, or refused."""
_LARGEST = 100 * 2**20
"""Bytes of a file of the package above which it is not read."""


def export(source: Source, out: Path, config: WebConfig, log: Log) -> list[Path]:
    """Write the page and the card into a folder that exists."""
    onnx.require()
    runtime = runtime_files(config, log)
    written = write_card(source, out, "web") + write_page(source, out, config, runtime, log)
    remove_earlier(out, written)
    return written


def write_page(source: Source, out: Path, config: WebConfig, runtime: Mapping[str, Path], log: Log) -> list[Path]:
    """Write all that the page loads, generators and runtime included, and nothing else; the files written.

    Everything is listed in `progan.json` and `shell.js`. Names of large files have a part of their SHA-256, so that a
    browser may keep them for ever.
    """
    written: list[Path] = []
    digests: dict[str, str] = {}

    def write(name: str, data: bytes) -> str:
        """Write a file; its SHA-256."""
        written.append(out / name)
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        write_whole(written[-1], data)
        digests[name] = hashlib.sha256(data).hexdigest()
        return digests[name]

    def write_large(name: str, suffix: str, data: bytes) -> dict[str, Any]:
        """Write a file whose name changes with its content; what the page must know of it."""
        digest = hashlib.sha256(data).hexdigest()
        file = f"{name}-{digest[:8]}.{suffix}"
        write(file, data)
        return {"file": file, "bytes": len(data), "sha256": digest}

    def write_runtime(module: str, binary: str) -> dict[str, Any]:
        """Write module and binary under names that any host serves with the right type."""
        name = f"runtime/{module.partition('.bundle')[0].replace('.', '-')}"
        script = write_large(name, "js", runtime[module].read_bytes())
        wasm = write_large(name, "wasm", runtime[binary].read_bytes())
        return {"module": script["file"], "binary": wasm["file"], "bytes": wasm["bytes"], "sha256": wasm["sha256"]}

    models = []
    for resolution, snapshot in source.snapshots.items():
        graph = onnx.make(snapshot, config.weights, source.metrics.get(resolution))
        entry = write_large(f"models/generator-{resolution}x{resolution}", "onnx", graph.content)
        log(
            f"{resolution}x{resolution}: {entry['bytes'] / 1e6:.1f} MB; compared with PyTorch: pixels differ by up to "
            f"{graph.steps}/255"
        )
        facts = {"kimg": snapshot.info.cur_nimg / 1000, "snapshot": snapshot.digest}
        models.append({"resolution": resolution, **entry, **facts})
    runtimes = {"version": PINNED, "wasm": write_runtime(_MODULE, _BINARY), "webgpu": None}
    if config.webgpu:
        runtimes["webgpu"] = write_runtime(_GPU_MODULE, _GPU_BINARY)

    for name, data in page_files().items():
        write(name, data)
    picture = portrait(source.last, config.icon_seed)
    for size in (192, 512):
        write(f"icons/icon-{size}.png", icon(picture, size))
        write(f"icons/maskable-{size}.png", icon(picture, size, maskable=True))
    write("progan.json", _json(_facts(source, config, models, runtimes)))
    write("manifest.json", _json(_manifest(source)))
    # What the service worker keeps; its version changes with any of the files, the large ones by their names.
    shell = {name: digest for name, digest in digests.items() if not name.endswith((".onnx", ".wasm", "sw.js"))}
    version = hashlib.sha256(json.dumps(shell, sort_keys=True).encode()).hexdigest()[:16]
    names = ["./", *sorted(name for name in shell if name != "index.html")]
    write("shell.js", b"self.SHELL = " + _json({"version": version, "files": names}))
    # An earlier export works until here, and its large files are no longer named from here on.
    for pattern in ("models/generator-*-????????.onnx", "runtime/ort-*-????????.*"):
        for path in set(out.glob(pattern)).difference(written):
            path.unlink()
    return written


def page_files() -> Mapping[str, bytes]:
    """The page's own files by name: HTML, CSS and ES modules."""
    folder = resources.files("progan.app").joinpath("page")
    files = (file for file in folder.iterdir() if file.is_file())  # what only a server's page has lies deeper
    return {file.name: file.read_bytes() for file in sorted(files, key=lambda file: file.name)}


def _facts(source: Source, config: WebConfig, models: list[Any], runtimes: Any) -> dict[str, Any]:
    """What the page knows of its generators: `Facts` of `app/page/engine.js`."""
    last, info = source.last, source.last.info
    labels = None
    if info.label_kind:
        rows = [] if last.label_rows is None else last.label_rows.tolist()
        short = [[int(value) if value == int(value) else value for value in row] for row in rows]
        labels = {"kind": info.label_kind, "names": info.label_names, "rows": short}
    return {
        "format": FORMAT,
        "version": VERSION,
        "progan": progan.__version__,
        "title": source.title,
        "data": info.dataset,
        "licence": source.licence,
        "snapshot": last.digest,
        "z_dim": last.z_dim,
        "channels": info.shape.channels,
        "weights": config.weights,
        "labels": labels,
        "models": models,
        "runtime": runtimes,
    }


def _manifest(source: Source) -> dict[str, Any]:
    """Web app manifest: what makes the page installable. Every address is relative, so that any sub-path will do."""
    icons = [
        {"src": f"icons/{name}-{size}.png", "sizes": f"{size}x{size}", "type": "image/png", "purpose": purpose}
        for size in (192, 512)
        for name, purpose in (("icon", "any"), ("maskable", "maskable"))
    ]
    return {
        "name": source.title,
        "short_name": source.title[:24],
        "description": "Pictures made by a generator on your own device.",
        "id": "./",
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#161514",
        "theme_color": "#161514",
        "icons": icons,
    }


def _json(data: Any) -> bytes:
    return (json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def portrait(snapshot: Snapshot, seed: int) -> Image.Image:
    """The picture of a seed, RGB."""
    labels = default_labels(snapshot, 1)
    return pil_image(torch.cat(list(Drawing(snapshot, [seed], labels).pixels()))[0]).convert("RGB")


def icon(picture: Image.Image, size: int, maskable: bool = False) -> bytes:
    """A PNG of size x size made of a square RGB picture; `maskable`: with the margin that launchers may cut off."""
    inner = size * 8 // 10 if maskable else size  # within the safe zone, a circle of 80 %
    coarse = picture.width < inner // 2
    picture = picture.resize((inner, inner), Image.Resampling.NEAREST if coarse else Image.Resampling.LANCZOS)
    edge = picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    sheet = Image.new("RGB", (size, size), edge)
    sheet.paste(picture, ((size - inner) // 2, (size - inner) // 2))
    file = BytesIO()
    sheet.save(file, "png", optimize=True)
    return file.getvalue()


# The runtime


def runtime_files(config: WebConfig, log: Log) -> dict[str, Path]:
    """The files of the pinned runtime that an export needs, from --runtime, the cache or npm. Raises ExportError."""
    needed = [_MODULE, _BINARY, *([_GPU_MODULE, _GPU_BINARY] if config.webgpu else [])]
    cache = cache_folder("runtimes") / f"{PACKAGE}-{PINNED}"
    if config.runtime is not None:
        place = Path(config.runtime)
        if not place.exists():
            raise ExportError(f"--runtime: {place} does not exist")
        if place.is_file():
            _unpack(place, cache)
            place = cache
        elif (place / "dist").is_dir():
            place = place / "dist"
        return _checked(place, needed, f"--runtime: {place} is not {PACKAGE} {PINNED}")
    if not all((cache / name).is_file() and _digest(cache / name) == HASHES[name] for name in HASHES):
        _fetch(cache, log)
    return _checked(cache, needed, f"{cache} is damaged: delete it")


def _checked(place: Path, names: list[str], problem: str) -> dict[str, Path]:
    """Paths of the files. Raises ExportError for one that is missing or is not the pinned one."""
    for name in names:
        if not (place / name).is_file():
            raise ExportError(f"{problem}: {name} is missing")
        if _digest(place / name) != HASHES[name]:
            raise ExportError(f"{problem}: {name} has other content")
    return {name: place / name for name in names}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(cache: Path, log: Log) -> None:
    """Have npm pack the pinned version, and keep the files that are used. Raises ExportError."""
    npm, by_hand = shutil.which("npm"), f"`npm pack {PACKAGE}@{PINNED}` where there is one, then --runtime FILE"
    if npm is None:
        raise ExportError(
            f"{PACKAGE} is needed, and npm, which fetches it, is not installed. Install npm, or {by_hand}"
        )
    log(f"fetching {PACKAGE} {PINNED} by npm, once; it is kept in {cache}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{PINNED}", "--silent", "--pack-destination", folder]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
        except subprocess.TimeoutExpired:
            raise ExportError(f"npm did not fetch {PACKAGE} within 15 minutes. Try again, or {by_hand}") from None
        packed = list(Path(folder).glob("*.tgz"))
        if done.returncode or not packed:
            said = " ".join((done.stderr or done.stdout).split())[:200]
            raise ExportError(f"npm could not fetch {PACKAGE} {PINNED}: {said or 'it gave no reason'}. Or {by_hand}")
        _unpack(packed[0], cache)


def _unpack(package: Path, cache: Path) -> None:
    """Put the files that are used into the cache, each checked. Raises ExportError for anything but the package."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(package) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if member.name == f"package/dist/{name}" and name in HASHES and member.isfile():
                    if member.size > _LARGEST:
                        raise ExportError(f"{package} is not {PACKAGE} {PINNED}: {name} is too large")
                    file = archive.extractfile(member)
                    assert file is not None, "a file of an archive can be read"
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ExportError(f"{package} cannot be read as a package of npm: {error}") from None
    for name, digest in HASHES.items():
        if hashlib.sha256(found.get(name, b"")).hexdigest() != digest:
            raise ExportError(f"{package} is not {PACKAGE} {PINNED}: {name} is missing, or has other content")
    cache.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        write_whole(cache / name, data)
