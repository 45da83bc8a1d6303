"""Object storage, `s3://`, `gs://`, `az://`: sources are copied into the scratch folder and opened as on the disk; what
`prepare --to` writes is sent there when it is complete.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from progan.data.sources.base import Unreadable, import_extra
from progan.errors import DatasetError


class _Provider(NamedTuple):
    package: str
    """What fsspec needs for it."""
    extra: str
    credentials: str
    """Where its package finds them, for a user who has set none."""


_AZURE = _Provider("adlfs", "az", "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY")
_PROVIDERS = {
    "s3": _Provider(
        "s3fs",
        "s3",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (AWS_ENDPOINT_URL for another server)",
    ),
    "gs": _Provider("gcsfs", "gs", "set GOOGLE_APPLICATION_CREDENTIALS to the file of a key"),
    "az": _AZURE,
    "abfs": _AZURE,
    "memory": _Provider("fsspec", "cloud", "it needs none"),  # for tests
}
"""Protocol -> who answers it."""
_AT_ONCE = 256  # files that are copied together, which s3fs and its kin do in parallel


def is_remote(source: str) -> bool:
    """True for an address on object storage."""
    protocol, colon, _ = source.partition("://")
    return bool(colon) and protocol in _PROVIDERS


def copied(source: str, scratch: Path) -> str:
    """Path of a copy of the file or folder in the scratch folder; one of an earlier call is kept, file by file.

    Raises DatasetError.
    """
    system, root, files = _listed(source)
    name = PurePosixPath(root).name or "images"
    folder = scratch / "remote"

    def missing() -> Iterator[tuple[str, str]]:
        """Each file that is not here yet, and where it goes."""
        for path, about in files.items():
            relative = PurePosixPath(path).relative_to(root)
            if ".." in relative.parts:
                raise DatasetError(f"{source}: {path} leaves the folder. Rename it")
            target = folder / name / relative if path != root else folder / name
            if not target.exists() or target.stat().st_size != about["size"]:
                target.parent.mkdir(parents=True, exist_ok=True)
                yield path, str(target)

    wanted = missing()
    while some := list(islice(wanted, _AT_ONCE)):
        try:
            system.get(*map(list, zip(*some, strict=True)))
        except Exception as error:  # of the libraries of the providers
            raise DatasetError(f"{source} cannot be copied ({reason(error)}). Run the same command again") from None
    return str(folder / name)


def refuse_existing(out: str) -> None:
    """Raise DatasetError if there is something at the address already, no bucket for it, or it cannot be looked at."""
    system, root = file_system(out)
    try:
        there, has_bucket = system.exists(root), system.exists(bucket(root))
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{out} cannot be written ({reason(error)}). {advice(out, error)}") from None
    if not has_bucket:
        raise DatasetError(
            f"{out} cannot be written: there is no bucket {bucket(root)}. Make it, or correct the address"
        )
    if there:
        raise DatasetError(f"{out} is there already. Choose another name or delete it")


def send(path: Path, out: str) -> None:
    """Copy a file, or a folder and all in it, to an address. Raises DatasetError."""
    system, root = file_system(out)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    try:
        for file in files:
            system.put_file(str(file), root if file == path else f"{root}/{file.relative_to(path).as_posix()}")
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{out} cannot be written ({reason(error)}). Run the same command again") from None


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
    system, root = file_system(source)
    try:
        files = system.find(root, detail=True)
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{source} cannot be read ({reason(error)}). {advice(source, error)}") from None
    if not files:
        raise DatasetError(f"{source} does not exist, or holds no files. Look at the address")
    return system, root, {path.rstrip("/"): about for path, about in files.items()}


def bucket(root: str) -> str:
    """The bucket of a path on object storage."""
    return root[: root.find("/", 1)] if "/" in root[1:] else root


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it. Raises DatasetError."""
    protocol = address.partition("://")[0]
    provider = _PROVIDERS[protocol]
    try:
        import_extra(provider.package, provider.extra, f"{protocol}:// needs it")
        fsspec = import_extra("fsspec", provider.extra, f"{protocol}:// needs it")
        system, root = fsspec.core.url_to_fs(address)
    except Unreadable as error:
        raise DatasetError(f"{address} cannot be opened: {error}") from None
    except Exception as error:  # of the libraries of the providers
        raise DatasetError(f"{address} cannot be opened ({reason(error)}). {advice(address, error)}") from None
    return system, root.rstrip("/")


def advice(address: str, error: Exception) -> str:
    """What to do about a provider's error."""
    if isinstance(error, FileNotFoundError):
        return "Correct the address"
    return f"For credentials, {_PROVIDERS[address.partition('://')[0]].credentials}; and look at the address"


def reason(error: Exception) -> str:
    """First line of what a provider's package says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
