"""SLURM: a batch script for `sbatch` that saves before its time limit and submits itself again."""

import re
import shlex
import sys
from pathlib import Path

from progan.commands import SlurmConfig
from progan.errors import ConfigError
from progan.files import write_whole
from progan.submit.base import PATIENCE, PORT, Raw, Work, hand_over, python, shell

_MARGIN = 120
"""Seconds: SLURM may send a signal a minute early, and looks at limits twice a minute."""

_SCRIPT = """\
#!/bin/bash
{directives}
# SLURM sends USR1 to this script before the time limit: training is told to save, and the job submits itself again.
# TERM comes from scancel or before a preemption: training saves as well, and SLURM decides what becomes of the job.
# A signal that comes before training has started is kept for it.
again= signalled= training=
save() {{ signalled=yes; [ -z "$training" ] || kill -TERM "$training"; }}
trap 'again=yes; save' USR1
trap save TERM
cd {folder} || exit
{setup}
{command} &
training=$!
[ -z "$signalled" ] || save
wait "$training"; code=$?
while kill -0 "$training" 2> /dev/null; do wait "$training"; code=$?; done  # a signal ends `wait`, not training

if [ -n "$again" ]; then
    exec sbatch {same}{script}
fi
exit "$code"
"""


def describe(work: Work, config: SlurmConfig) -> str:
    """The batch script. Raises ConfigError for limits that leave no time, and for paths that SLURM cannot name."""
    if config.array and (work.command != "train" or work.has("--seed")):
        raise ConfigError("--array gives each run of `progan train` its seed; leave out --seed or --compare")
    if seconds(config.time) < config.stop_before + _MARGIN:
        least = (config.stop_before + _MARGIN) / 60
        raise ConfigError(
            f"--time {config.time} leaves no time: give at least {least:g} minutes, or less --stop-before"
        )
    out = Path(work.out).absolute()
    log = str(out).replace("%", "%%") + ("/slurm-%A_%a.log" if config.array else "/slurm-%j.log")
    if any(ord(letter) < 32 for letter in log):
        raise ConfigError(f"--out {work.out!r} has characters that SLURM cannot have in the name of its log")
    given = {
        "job-name": work.name(config),
        "output": log,
        "open-mode": "append",
        "time": config.time,
        "signal": f"B:USR1@{config.stop_before}",
        "nodes": str(config.hosts),
        "ntasks-per-node": "1",
        "cpus-per-task": str(config.cpus),
        "mem": config.memory,
        "gpus-per-node": str(config.gpus) if config.gpus else None,
        "array": _seeds(config),
        "partition": config.partition,
        "account": config.account,
        "requeue": "",  # after a host has failed, or a preemption
    }
    directives = [
        f"#SBATCH --{name}" + (f"={_directive(value)}" if value else "")
        for name, value in given.items()
        if value is not None
    ]
    folder, more = str(out), []
    if config.array:
        folder, more = Raw(f"{shlex.quote(folder)}/seed-$SLURM_ARRAY_TASK_ID"), ["--seed", Raw("$SLURM_ARRAY_TASK_ID")]
        if work.copy_to is not None:  # each run has its own; of an option given twice, the last holds
            more += ["--copy-to", Raw(f"{shlex.quote(work.copy_to.rstrip('/'))}/seed-$SLURM_ARRAY_TASK_ID")]
    first = Raw(f'"$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):{PORT}"')
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", first, "--rdzv-id", Raw('"$SLURM_JOB_ID"')]
    # srun of SLURM 22.05 to 23.02 does not take the number of cores from the job.
    start = ["srun", "--kill-on-bad-exit=1", f"--cpus-per-task={config.cpus}"] if config.hosts > 1 else []
    patience = f"export {PATIENCE}={config.stop_before}" if config.processes > 1 else None
    program = [*start, config.python or sys.executable, *python(config, *meeting)]
    return _SCRIPT.format(
        directives="\n".join(directives),
        folder=shlex.quote(str(Path.cwd())),
        setup="".join(f"{line}\n" for line in (patience, config.setup) if line),
        command=shell([*program, *work.words(folder, work.inputs, *more)]),
        same='--array="$SLURM_ARRAY_TASK_ID" ' if config.array else "",
        script=shlex.quote(str(_path(work))),
    )


def submit(work: Work, config: SlurmConfig) -> str:
    """Write the script into the run folder and hand it to `sbatch`; what that prints. Raises ProganError."""
    text, path = describe(work, config), _path(work)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode("utf-8", "surrogateescape"))
    return f"{hand_over(['sbatch', str(path)], 'run this on a login node of the cluster')}\n{path}"


def seconds(limit: str) -> int:
    """Seconds of a time limit as SLURM writes them: `90`, `90:00`, `1:30:00`, `2-12`, `2-12:30:00`. ConfigError."""
    parts = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit.strip())
    if not parts:
        raise ConfigError(f"--time must be a limit such as 90, 1:30:00 or 2-12:00:00; got {limit!r}")
    days, *rest = parts.groups()
    numbers = [int(number) for number in rest if number is not None]
    if days is None and len(numbers) < 3:
        numbers = [0, *numbers]  # minutes, or minutes and seconds
    hours, minutes, last = [*numbers, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + last


def _path(work: Work) -> Path:
    return Path(work.out).absolute() / "job.sbatch"


def _seeds(config: SlurmConfig) -> str | None:
    if config.array is not None and not re.fullmatch(r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?", config.array):
        raise ConfigError(f"--array must be seeds such as 0-4 or 1,3,5; got {config.array!r}")
    return config.array


def _directive(value: str) -> str:
    """Value of a line #SBATCH, where SLURM splits words as a shell does, and expands nothing."""
    return value if re.fullmatch(r"[\w@%+=:,./-]+", value) else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
