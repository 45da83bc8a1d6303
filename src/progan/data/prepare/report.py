"""What a preparation reports, and what it says about values and colours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from progan.data.dataset import LabelKind
from progan.data.prepare.ranges import Ends, Ranges, Tally, range_text


@dataclass(frozen=True)
class PrepareReport:
    """Result of `prepare`."""

    out: str
    source: str
    state: Literal["prepared", "continued", "already there"]
    read: int
    """Candidates: files or rows of an array."""
    count: int
    """Images in the dataset."""
    skipped: Mapping[str, int]
    """Reason -> how many; the files are named in skipped.csv."""
    upscaled: int
    """Images that are smaller than the resolution and were enlarged."""
    resolutions: tuple[int, ...]
    channels: int
    label_kind: LabelKind | None
    label_names: tuple[str, ...]
    bytes: int
    """On disk."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What was seen and not used, and how it would be; lines for people."""
    ranges: Ranges = field(default_factory=Ranges)
    """The values that became 0 … 255."""
    tally: Tally = field(default_factory=Tally)
    """What was done to values and colours."""


def _shown(report: PrepareReport) -> dict[Ends, str]:
    """The ranges that pictures were brought to 0 … 255 by, and what they were."""
    ranges, tally = report.ranges, report.tally
    shown: dict[Ends, str] = {}
    if tally.wide > tally.windowed:
        shown |= {ends: f"{kind} " for kind, ends in (("integers", ranges.integers), ("floats", ranges.floats)) if ends}
    if tally.stretched:
        shown[ranges.bytes] = "8 bits "
    return shown


def range_of(report: PrepareReport) -> str | None:
    """What `--range` must be for other images to be treated in the same way; None where it need not be given."""
    shown = list(_shown(report))
    return range_text(shown[0]) if len(shown) == 1 else None


def remarks(report: PrepareReport) -> list[str]:
    """What was done to the values and colours of a set, one line each; none for ordinary pictures."""
    tally, shown = report.tally, _shown(report)
    lines = []
    for ends, kind in shown.items():
        text, whose = range_text(ends), kind if len(shown) > 1 else "values "
        lines.append(f"{whose}{text.replace(':', ' … ')} become 0 … 255 (of other images, too, with --range {text})")
    others = report.read - sum(report.skipped.values()) - tally.wide - tally.stretched  # pictures, which may have faces
    if lines and others > 0:
        lines[-1] += f"; {_images_of(others)} of 8 bits as they are"
    if tally.windowed:
        lines.append(f"{_images_of(tally.windowed)} through the window of the file (--range LOW:HIGH overrides it)")
    if tally.outside:
        part = tally.outside / max(1, tally.values)
        lines.append(f"{tally.outside:,} values ({part:.2%}) lie outside the range and are cut off")
    if tally.not_finite:
        lines.append(
            f"{tally.not_finite:,} values are NaN or infinite: NaN becomes black, infinities an end of the range"
        )
    if tally.recoloured:
        lines.append(f"{_images_of(tally.recoloured)} converted from another colour profile to sRGB")
    if tally.profiles_ignored:
        lines.append(
            f"{_images_of(tally.profiles_ignored)} with a colour profile that is broken or not for such pixels: ignored"
        )
    if tally.first_frames:
        lines.append(
            f"of {tally.first_frames:,} animation{'' if tally.first_frames == 1 else 's'} only the first image"
        )
    if tally.extended:
        lines.append(f"{_images_of(tally.extended)} cut out beyond the edge of the picture: mirrored and blurred there")
    return lines


def _images_of(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
