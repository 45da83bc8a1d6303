"""Object storage, `s3://`, `gs://`, `az://`: sources are copied into the scratch folder and opened as on the disk; what
`prepare --to` writes is sent there when it is complete.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from progan.data.sources.base import Unreadable, import_extra
from progan.errors import DatasetError

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "memory": "fsspec"}
"""Protocol -> package that fsspec needs for it; `memory` is for tests."""


def is_remote(source: str) -> bool:
    """True for an address on object storage."""
    protocol, colon, _ = source.partition("://")
    return bool(colon) and protocol in _PACKAGES


def copied(source: str, scratch: Path) -> str:
    """Path of a copy of the file or folder in the scratch folder; one of an earlier call is kept, file by file.

    Raises DatasetError.
    """
    system, root, files = _listed(source)
    name = PurePosixPath(root).name or "images"
    folder = scratch / "remote"
    try:
        for path, about in files.items():
            relative = PurePosixPath(path).relative_to(root)
            target = folder / name / relative if path != root else folder / name
            if ".." in relative.parts:
                raise DatasetError(f"{source}: {path} leaves the folder. Rename it")
            if target.exists() and target.stat().st_size == about["size"]:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(path, str(target))
    except OSError as error:
        raise DatasetError(f"{source} cannot be copied ({error}). Run the same command again") from None
    return str(folder / name)


def refuse_existing(out: str) -> None:
    """Raise DatasetError if there is something at the address already, or it cannot be looked at."""
    system, root = _file_system(out)
    try:
        there = system.exists(root)
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{out} cannot be looked at ({_reason(error)}). Look at your credentials") from None
    if there:
        raise DatasetError(f"{out} is there already. Choose another name or delete it")


def send(path: Path, out: str) -> None:
    """Copy a file, or a folder and all in it, to an address. Raises DatasetError."""
    system, root = _file_system(out)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    try:
        for file in files:
            system.put_file(str(file), root if file == path else f"{root}/{file.relative_to(path).as_posix()}")
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{out} cannot be written ({_reason(error)}). Run the same command again") from None


def remote_identity(source: str) -> Iterator[Any]:
    """JSON values that are equal as long as the files are: names, sizes, and times or digests where there are any."""
    yield source
    for path, about in sorted(_listed(source)[2].items()):
        yield [
            path,
            about["size"],
            *(str(about.get(key)) for key in ("ETag", "etag", "mtime", "created", "LastModified")),
        ]


def _listed(source: str) -> tuple[Any, str, dict[str, dict[str, Any]]]:
    """The file system, the path in it, and all files there with what it says of them. Raises DatasetError."""
    system, root = _file_system(source)
    try:
        files = system.find(root, detail=True)
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{source} cannot be read ({_reason(error)}). Look at it and at your credentials") from None
    if not files:
        raise DatasetError(f"{source} does not exist, or holds no files. Look at the address")
    return system, root, {path.rstrip("/"): about for path, about in files.items()}


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it. Raises DatasetError."""
    protocol = address.partition("://")[0]
    try:
        fsspec = import_extra("fsspec", "cloud", f"{protocol}:// needs it")
        import_extra(_PACKAGES[protocol], "cloud", f"{protocol}:// needs it")
        system, root = fsspec.core.url_to_fs(address)
    except Unreadable as error:
        raise DatasetError(f"{address} cannot be opened: {error}") from None
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{address} cannot be opened ({_reason(error)}). Look at your credentials") from None
    return system, root.rstrip("/")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
