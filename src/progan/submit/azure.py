"""Azure Machine Learning: a command job, created from here through `azure-ai-ml` (extra `azure`)."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from progan.commands import AzureConfig
from progan.errors import ConfigError, ProganError
from progan.submit import wheel
from progan.submit.base import Raw, Work, python, shell, yaml

_CODE = "code"
"""Folder beside the job's file that is uploaded: it holds the wheel."""
_MOUNTED = ("azureml:", "wasbs://", "abfss://", "https://")
"""Addresses that Azure mounts itself; others are read by progan."""


def describe(work: Work, config: AzureConfig) -> str:
    """YAML of the command job. Raises ConfigError."""
    return yaml(job(work, config))


def job(work: Work, config: AzureConfig) -> dict[str, Any]:
    """The command job, as `azure-ai-ml` and `az ml job create` read it. Raises ConfigError."""
    inputs: dict[str, Any] = {}
    places: dict[str, str] = {}
    for flag, place in work.inputs.items():
        here, name = work.is_here(flag), flag.removeprefix("--").replace("-", "_")
        places[flag] = place
        if here or place.startswith(_MOUNTED):
            single = Path(place).is_file() if here else "://" in place and bool(PurePosixPath(place).suffix)
            path = str(Path(place).absolute()) if here else place
            inputs[name] = {"type": "uri_file" if single else "uri_folder", "path": path, "mode": "ro_mount"}
            places[flag] = Raw(f'"${{{{inputs.{name}}}}}"')  # in quotes, a path or a variable that Azure puts there
    # On each host Azure starts the command once, and says by variables which host it is and where they meet.
    hosts = (
        "--node-rank",
        Raw('"$NODE_RANK"'),
        "--master-addr",
        Raw('"$MASTER_ADDR"'),
        "--master-port",
        Raw('"$MASTER_PORT"'),
    )
    program = shell(["exec", "python", *python(config, *hosts), *work.words(Raw('"${{outputs.run}}"'), places)])
    # The wheel that was uploaded, never a package of its name from an index; what it needs is in the environment.
    install = f"python -m pip install --no-index --no-deps --force-reinstall ./{wheel.name()}"
    found: dict[str, Any] = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
        "type": "command",
        "display_name": work.name(config),
        "experiment_name": "progan",
        "code": f"./{_CODE}",
        "command": f"{install} && {program}",
        "environment": {
            "image": config.image,
            "conda_file": {
                "name": "progan",
                "channels": ["conda-forge"],
                "dependencies": ["python=3.12", "pip", {"pip": wheel.requirements(*work.extras(places))}],
            },
        },
        **({"environment_variables": work.variables()} if work.variables() else {}),
        **({"inputs": inputs} if inputs else {}),
        # At a fixed place, so that the job finds its state when it is started again, and so does another job.
        "outputs": {
            "run": {
                "type": "uri_folder",
                "mode": "rw_mount",
                "path": f"azureml://datastores/{config.datastore}/paths/progan/{work.name(config)}/",
            }
        },
        "resources": {"instance_count": config.hosts},
    }
    if config.cluster:
        found["compute"] = f"azureml:{config.cluster}"
    else:
        found["resources"]["instance_type"] = config.size
        found["queue_settings"] = {"job_tier": "spot" if config.spot else "dedicated"}
    if config.hosts > 1:
        found["distribution"] = {"type": "pytorch", "process_count_per_instance": 1}
    check(found)
    return found


def check(job: Mapping[str, Any]) -> None:
    """Raise ConfigError for `${{inputs.NAME}}` and the like that the job does not define: the SDK lets them through."""
    for text in re.findall(r"\$\{\{(.*?)\}\}", job["command"], re.DOTALL):
        kind, _, name = text.strip().partition(".")
        if kind not in ("inputs", "outputs") or name not in job.get(kind, {}):
            known = [f"{kind}.{each}" for kind in ("inputs", "outputs") for each in job.get(kind, {})]
            raise ConfigError(f"${{{{{text}}}}} is nothing that the job defines; there are {', '.join(known)}")


def submit(work: Work, config: AzureConfig) -> str:
    """Create the job in the workspace; its name and the address of its page. Raises ProganError."""
    text = describe(work, config)
    try:
        from azure.ai.ml import MLClient, load_job
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise ProganError("Azure needs its SDK: pip install '.[azure]', or print the job with --dry-run") from None
    with tempfile.TemporaryDirectory() as folder:
        code, file = Path(folder) / _CODE, Path(folder) / "job.yml"
        code.mkdir()
        wheel.write(code)
        file.write_text(text, encoding="utf-8")
        try:
            credential, where = DefaultAzureCredential(), (config.subscription, config.resource_group, config.workspace)
            client = MLClient(credential, *where) if config.workspace else MLClient.from_config(credential)
            created = client.jobs.create_or_update(load_job(file))
        except Exception as error:  # the SDK's own, of which there is no common kind
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ProganError(f"Azure refused the job: {reason}. See docs/submitting.md for signing in") from None
    return f"{created.name}\n{created.studio_url}"
