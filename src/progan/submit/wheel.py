"""The wheel of the progan that is running, so that a job has this very code, whatever an index calls by its name."""

import base64
import hashlib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import progan


def name() -> str:
    """File name of the wheel."""
    return f"progan-{progan.__version__}-py3-none-any.whl"


def write(folder: Path) -> Path:
    """Write the wheel into the folder (format: the Python packaging user guide, "Binary distribution format").

    It holds the package's files as they are, edited ones too; building it needs neither a checkout nor an index.
    """
    package, info = Path(progan.__file__).parent, f"progan-{progan.__version__}.dist-info"
    files = {
        f"progan/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    metadata = distribution("progan")
    files[f"{info}/METADATA"] = (metadata.read_text("METADATA") or "").encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: progan\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = (metadata.read_text("entry_points.txt") or "").encode()
    rows = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    with zipfile.ZipFile(folder / name(), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    return folder / name()


def requirements(*extras: str) -> list[str]:
    """What the wheel needs besides itself, as pip writes it, with that of extras such as `cloud`."""
    found = []
    for line in distribution("progan").requires or []:
        requirement, _, marker = line.partition(";")
        if not marker or any(
            marker.split() == ["extra", "==", quote + extra + quote] for extra in extras for quote in "'\""
        ):
            found.append(requirement.strip())
    return found


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
