"""SkyPilot: a task for `sky jobs launch`, which finds another machine when one is preempted."""

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from progan.commands import SkypilotConfig
from progan.errors import ConfigError
from progan.submit import wheel
from progan.submit.base import PORT, Raw, Work, hand_over, python, shell, yaml

_WHEELS, _INPUTS, _RUNS = "/progan/wheels", "/progan/inputs", "/progan/runs"
_COPIED = ("s3://", "gs://", "r2://", "https://")
"""Addresses that SkyPilot copies to the machine itself; others are read by progan."""


def describe(work: Work, config: SkypilotConfig, wheels: str = "wheels") -> str:
    """YAML of the task; `wheels` is the folder here with the wheel. Raises ConfigError."""
    return yaml(task(work, config, wheels))


def submit(work: Work, config: SkypilotConfig) -> str:
    """Hand the task to `sky jobs launch`; the last line that it prints. Raises ProganError."""
    with tempfile.TemporaryDirectory() as folder:
        wheel.write(Path(folder))
        file = Path(folder) / "task.yaml"
        file.write_text(describe(work, config, folder), encoding="utf-8")
        advice = "pip install 'skypilot[aws]', or with another cloud's name"
        done = hand_over(["sky", "jobs", "launch", "--yes", "--detach-run", str(file)], advice)
    return next(iter(reversed(done.splitlines())), "")


def task(work: Work, config: SkypilotConfig, wheels: str) -> dict[str, Any]:
    """The task as SkyPilot's objects. Raises ConfigError."""
    if config.bucket is None:
        raise ConfigError("where is the run kept when its machine is taken away? Name a bucket with --bucket s3://…")
    protocol, _, path = config.bucket.partition("://")
    # Those of Azure and IBM have an account or a region before the bucket.
    length = 2 if protocol in ("https", "cos") else 1
    names = [name for name in path.split("/") if name]
    bucket, below = names[:length], names[length:]
    if len(bucket) < length:
        raise ConfigError(f"--bucket must be an address such as s3://mine/runs; got {config.bucket!r}")
    mounts: dict[str, Any] = {
        _WHEELS: wheels,
        # A cache on the disk takes files that grow, which the others of its mounts refuse.
        _RUNS: {"source": f"{protocol}://{'/'.join(bucket)}", "mode": "MOUNT_CACHED"},
    }
    places: dict[str, str] = {}
    for flag, place in work.inputs.items():
        here = work.is_here(flag)
        source = os.path.abspath(place) if here else place
        places[flag] = place
        if here or place.startswith(_COPIED):
            places[flag] = f"{_INPUTS}/{flag.removeprefix('--')}/{PurePosixPath(Path(source).as_posix()).name}"
            mounts[places[flag]] = source
    out = str(PurePosixPath(_RUNS, *below, work.name(config)))
    first = Raw('"$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"')
    hosts = ("--node-rank", Raw('"$SKYPILOT_NODE_RANK"'), "--master-addr", first, "--master-port", PORT)
    extras = ",".join(work.extras(places))
    resources: dict[str, Any] = {
        **({"infra": config.infra} if config.infra else {}),
        **({"accelerators": f"{config.accelerator}:{config.gpus}"} if config.gpus else {}),
        "use_spot": config.spot,
        "disk_size": config.disk,
    }
    return {
        "name": work.name(config),
        "resources": resources,
        "num_nodes": config.hosts,
        **({"envs": work.variables()} if work.variables() else {}),
        "file_mounts": mounts,
        # The wheel that goes along, never a package of its name from an index; what it needs comes from there.
        "setup": shell(["python3", "-m", "pip", "install", f"{_WHEELS}/{wheel.name()}{extras and f'[{extras}]'}"])
        + "\n",
        "run": shell(["exec", "python3", *python(config, *hosts), *work.words(out, places)]) + "\n",
    }
