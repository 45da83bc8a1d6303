"""Rendezvous of the processes that torchrun started, the storage that they share, and their end."""

import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from progan.errors import ProcessError, RunError
from progan.training.parallel.processes import ALONE, TIMEOUT, Processes, Several

LATE = 180.0
"""Seconds that shared storage may take until all hosts see what one has written."""


def launched() -> bool:
    """True if torchrun, or something that sets the same variables, started this process."""
    return dist.is_torchelastic_launched() or _size() > 1


def is_first() -> bool:
    """True for the first of the processes that were started together."""
    return int(os.environ.get("RANK", 0)) == 0


def _size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def join() -> Iterator[Processes]:
    """Processes that were started together with this one; ALONE if there are none.

    An error ends all of them, and one of them reports it: the others exit by SystemExit without a message.
    """
    if _size() == 1:
        yield ALONE
        return
    store, processes = _connect()
    try:
        yield processes
        processes.wait()  # else the first to leave would look like one that died
    except BaseException:
        if not _is_first_to_report(store):
            raise SystemExit(2) from None
        raise
    dist.destroy_process_group()


def _connect() -> tuple[PrefixStore, Several]:
    """Store that all processes can reach, and the processes."""
    try:
        shared, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        store = PrefixStore(meet(shared, rank, size), shared)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        return store, Several()
    except (RuntimeError, ValueError) as error:  # ValueError: a variable is missing
        reason = str(error).splitlines()[0]
        raise ProcessError(f"the {_size()} processes of this run could not meet: {reason}") from error


def meet(store: Store, rank: int, size: int) -> str:
    """Name of this rendezvous that all processes agree on, and no process that was here before them.

    torchrun gives processes that it starts again the store of those before, with all their keys, and no number of the
    attempt that is the same on every machine (torch 2.13; in a store used twice gloo looks for the dead). So the first
    process makes up a name and answers whoever asks, until all have confirmed this very name.
    """
    if rank > 0:
        question = uuid.uuid4().hex
        store.set(f"question/{rank}", question)
        name = store.get(f"answer/{question}").decode()
        store.set(f"confirmed/{name}/{rank}", "")
        return name
    name = uuid.uuid4().hex
    waiting = set(range(1, size))
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while waiting:
        for other in waiting:
            if store.check([f"question/{other}"]):
                store.set(f"answer/{store.get(f'question/{other}').decode()}", name)
        waiting = {other for other in waiting if not store.check([f"confirmed/{name}/{other}"])}
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(waiting)} did not come within {TIMEOUT}")
        time.sleep(0.01)
    return name


def _is_first_to_report(store: PrefixStore) -> bool:
    try:
        return bool(store.add("errors", 1) == 1)
    except RuntimeError:  # whoever kept the store is gone
        return True


def require_shared(file: Path, processes: Processes) -> None:
    """Wait until all hosts see a file of the run folder as the first process has written it; for LATE seconds.

    Only the first process uses the folder, but after a restart that may be one on another host, which would begin anew.
    Raises RunError in a process that does not see it.
    """
    written = _digest(file) if processes.first else ""
    host, digest = json.loads(processes.broadcast(json.dumps([socket.gethostname(), written]).encode()))
    end = time.monotonic() + LATE
    while not processes.first and _digest(file) != digest:
        if time.monotonic() > end:
            raise RunError(
                f"{socket.gethostname()} does not see the run folder {file.parent.absolute()} that {host} has begun. "
                "Put it where all hosts see it under this name"
            )
        time.sleep(0.05)


def _digest(file: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    with suppress(OSError):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return ""
