"""Networks of other implementations as snapshots."""

from pathlib import Path

from progan.errors import SnapshotError
from progan.importers.official import LICENCE, import_official
from progan.importers.ports import import_port
from progan.importers.torch_file import is_torch_file
from progan.progress import Log, silent
from progan.snapshot import Snapshot

__all__ = ["LICENCE", "import_network", "import_official", "import_port"]


def import_network(
    path: Path, licence: str | None = None, resolution: int | None = None, log: Log = silent
) -> Snapshot:
    """Snapshot of a network pickle of the authors' code, or of a checkpoint of one of the ports.

    It holds the averaged generator, and the trained one and D where the file has them. `licence`: default that of the
    networks the authors published, for a pickle of their code. `resolution`: at which a checkpoint of pro_gan_pytorch
    was trained last. `log` gets a line for what could not be taken. Raises SnapshotError.
    """
    try:
        port = is_torch_file(path)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from None
    if port:
        return import_port(path, licence or "", resolution, log)
    if resolution is not None:
        raise SnapshotError(f"{path} says itself at which resolution it was trained: leave --resolution out")
    return import_official(path, LICENCE if licence is None else licence, log)
