"""A model card, the snapshots, a grid of samples and the licence: a folder as the Hugging Face Hub wants it."""

import json
import re
from pathlib import Path
from typing import Any

import progan
from progan.errors import ExportError
from progan.export.source import Source
from progan.files import word, write_whole
from progan.images import grid
from progan.sampling.pictures import encode, samples
from progan.snapshot import Snapshot

MARK = "<!-- written by progan"
"""What a card of ours has in it; a README.md without it is never replaced."""
KNOWN_LICENCES = {
    "apache-2.0", "mit", "openrail", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0",
}  # fmt: skip
"""Licences that the Hub knows by name; any other is `other`."""


def check_folder(out: Path) -> None:
    """Make the folder that is exported to. Raises ExportError for one that holds something else."""
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; name a folder to write to")
    card = out / "README.md"
    if card.exists():
        if MARK not in card.read_text(encoding="utf-8", errors="replace"):
            raise ExportError(f"{card} is not a card of progan and would be lost; name another folder")
    elif out.exists() and any(path.name != ".git" for path in out.iterdir()):
        raise ExportError(f"{out} holds other files; name an empty folder, or a new one")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{out} cannot be made: {error.strerror}") from None


def write_card(source: Source, out: Path, form: str = "") -> list[Path]:
    """Write README.md, LICENSE, samples.png and a snapshot for each resolution; `form`: what else lies there."""
    # The card first: with it the folder is one of ours, and an export that was interrupted can be repeated.
    files = {"README.md": card(source, form).encode(), "LICENSE": _licence(source).encode()}
    files["samples.png"] = _samples(source.last)
    for name, content in files.items():
        write_whole(out / name, content)
    written = [out / name for name in files]
    for resolution, snapshot in source.snapshots.items():
        written.append(out / f"generator-{resolution}x{resolution}.safetensors")
        snapshot.save(written[-1])
    if not form:  # nothing follows
        remove_earlier(out, written)
    return written


def remove_earlier(out: Path, written: list[Path]) -> None:
    """Delete the generators of an earlier export into this folder, once all of the new one are written."""
    for path in out.glob("generator-*"):
        if re.fullmatch(r"generator-(\d+)x\1\.(safetensors|onnx)", path.name) and path not in written:
            path.unlink()


def _samples(snapshot: Snapshot) -> bytes:
    """The first seeds as a PNG."""
    across = 8 if snapshot.resolution <= 128 else 4
    pixels = samples(snapshot, across**2)
    if pixels.shape[2] < 64:  # whole pixels, so that small ones are seen
        pixels = pixels.repeat_interleave(64 // pixels.shape[2], 2).repeat_interleave(64 // pixels.shape[3], 3)
    return encode(grid(pixels, across), snapshot, range(across**2))


def _licence(source: Source) -> str:
    """Text of LICENSE: who may use the weights is for their maker to say."""
    if source.licence:
        return f"The weights in this folder: {source.licence}\n"
    return "The licence of the weights in this folder is not known. Ask who made them before you use them.\n"


def card(source: Source, form: str = "") -> str:
    """The model card: metadata that the Hub reads (YAML, in its JSON form), then words for people."""
    last, info = source.last, source.last.info
    sizes = ", ".join(f"{r}×{r}" for r in source.snapshots)
    kind = {"class": "classes", "attributes": "attributes"}.get(info.label_kind or "", "")
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in _metadata(source, form).items()), "---", ""]
    lines += [f"{MARK} {progan.__version__} -->", "", f"# {_plain(source.title)}", ""]
    lines += ["![Samples](samples.png)", "", "*The first seeds, none chosen.*", ""]
    lines += [
        f"A Progressive GAN (Karras et al., ICLR 2018) trained on {_plain(info.dataset) or 'data without a name'} with "
        f"{info.cur_nimg / 1000:,.5g} thousand real images. It makes pictures of {sizes} pixels"
        f"{f', with {kind}: {_plain(_few(info.label_names))}' if kind else ''}.",
        "",
        "| pixels | thousand real images | snapshot | measured |",
        "|---|---|---|---|",
    ]
    for resolution, snapshot in source.snapshots.items():
        numbers = ", ".join(f"{_plain(k)} {v:.4g}" for k, v in source.metrics.get(resolution, {}).items()) or "–"
        kimg = snapshot.info.cur_nimg / 1000
        lines.append(f"| {resolution}×{resolution} | {kimg:,.5g} | `{snapshot.digest}` | {numbers} |")
    name = f"generator-{last.resolution}x{last.resolution}"
    label = f"snapshot.labels([{info.label_names[0]!r}] * 64)" if info.label_kind == "class" else ""
    label = label or ('snapshot.labels([""] * 64)' if info.label_kind else "")
    lines += ["", "## Use", "", "```python", "import progan", "", f'snapshot = progan.load("{name}.safetensors")']
    lines += [f"images = snapshot.generate(snapshot.latents(range(64)){', ' * bool(label)}{label})"]
    lines += ["pixels = progan.to_pixels(images)  # uint8 [64, C, R, R]", "```", ""]
    if form == "onnx":
        given = f", `labels` float32 [N, {last.G.label_size}]" if last.G.label_size else ""
        lines += [
            f"`{name}.onnx` does the same in any onnxruntime: `z` float32 [N, {last.z_dim}]{given} and `truncation` "
            "float32 [] in, `images` float32 [N, C, R, R] out, about -1…1.",
            "",
        ]
    if form == "web":
        lines += ["`index.html` is a page that makes the pictures on the device that shows it.", ""]
    lines += [
        "## Limits",
        "",
        "Pictures resemble those it was trained on and can come close to repeating some of them, most of all where "
        "those were few. Label what you publish as generated, and do not use it to impersonate anybody.",
        "",
        "## Licence",
        "",
        _plain(source.licence) or "Not known.",
    ]
    return "\n".join(lines) + "\n"


def _metadata(source: Source, form: str) -> dict[str, Any]:
    """What the Hub reads: see its model card specification; `sdk: static` makes a Space of a page."""
    known = source.licence.lower() in KNOWN_LICENCES
    facts: dict[str, Any] = {"license": source.licence.lower() if known else "other"}
    if not known:
        facts |= {"license_name": _word(source.licence) or "unknown", "license_link": "LICENSE"}
    tags = ["gan", "progressive-gan", "image-generation", *(["onnx"] if form else [])]
    facts |= {"library_name": "progan", "pipeline_tag": "unconditional-image-generation", "tags": tags}
    if form == "web":
        facts |= {"title": source.title, "sdk": "static", "app_file": "index.html"}
    if results := [_result(source, r, values) for r, values in source.metrics.items() if values]:
        facts["model-index"] = [{"name": source.title, "results": results}]
    return facts


def _result(source: Source, resolution: int, values: Any) -> dict[str, Any]:
    data = source.snapshots[resolution].info.dataset or "unknown"
    return {
        "task": {"type": "unconditional-image-generation"},
        "dataset": {"name": f"{data} at {resolution}x{resolution}", "type": _word(data) or "unknown"},
        "metrics": [{"type": name, "name": name, "value": value} for name, value in values.items()],
    }


def _word(text: str) -> str:
    """Letters, digits and single hyphens: `CC BY-NC 4.0` is `cc-by-nc-4.0`."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _plain(text: str) -> str:
    """Text from outside without the characters that Markdown and HTML give a meaning."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def _few(names: tuple[str, ...], most: int = 40) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def push_command(out: Path, form: str = "") -> str:
    """The command with which the user puts the folder on the Hub."""
    return f"hf upload USER/NAME {word(out)}{' --repo-type space' if form == 'web' else ''}"
