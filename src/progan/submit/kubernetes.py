"""Kubernetes: a Job, or for several hosts a PyTorchJob of Kubeflow's training operator, handed to `kubectl`."""

from typing import Any

from progan.commands import KubernetesConfig
from progan.data.sources.remote import is_remote
from progan.errors import ConfigError
from progan.submit.base import PATIENCE, Work, hand_over, python, yaml

_FOLDER = "/work"
"""Where the volume is mounted."""
_GRACE = 120
"""Seconds in which a run that is told to end can save."""


def describe(work: Work, config: KubernetesConfig) -> str:
    """YAML of the Job or PyTorchJob. Raises ConfigError."""
    return yaml(job(work, config))


def submit(work: Work, config: KubernetesConfig) -> str:
    """Hand it to `kubectl create`; what that prints. Raises ProganError."""
    where = ["--namespace", config.namespace] if config.namespace else []
    return hand_over(["kubectl", "create", *where, "--filename", "-"], "install kubectl", describe(work, config))


def job(work: Work, config: KubernetesConfig) -> dict[str, Any]:
    """The Job or PyTorchJob as the API's objects. Raises ConfigError."""
    if config.claim is None and (config.hosts > 1 or not is_remote(work.copy_to or "")):
        raise ConfigError(
            "where do images and run lie? Name a PersistentVolumeClaim with --claim, or for one host object storage "
            "with --copy-to"
        )
    metadata: dict[str, Any] = {"name": work.name(config), "labels": {"app.kubernetes.io/name": "progan"}}
    if config.namespace:
        metadata["namespace"] = config.namespace
    if config.hosts > 1:
        # Each host is a replica. The operator says through PET_… to torchrun how many there are and where they meet.
        replica: dict[str, Any] = {"restartPolicy": "OnFailure", "template": {"spec": _pod(work, config, "pytorch")}}
        replicas = {"Master": {"replicas": 1, **replica}, "Worker": {"replicas": config.hosts - 1, **replica}}
        spec: dict[str, Any] = {
            "nprocPerNode": str(max(config.gpus, 1)),
            "runPolicy": {"backoffLimit": config.retries, "cleanPodPolicy": "Running"},
            "pytorchReplicaSpecs": replicas,
        }
        return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": metadata, "spec": spec}
    pod = {**_pod(work, config, "train"), "restartPolicy": "Never"}
    # An eviction or a preemption is no failure: another pod goes on.
    rules: list[dict[str, Any]] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    if config.processes == 1:
        # A mistake, a divergence and too little memory (docs/faults.md) would come again. torchrun's exit code is 1 for
        # all of them.
        rules.append({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3, 4]}})
    spec = {"backoffLimit": config.retries, "podFailurePolicy": {"rules": rules}, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod(work: Work, config: KubernetesConfig, name: str) -> dict[str, Any]:
    if config.hosts > 1:
        program = ["-m", "torch.distributed.run", "-m", "progan"]
    else:
        program = python(config)
    words = ["python", *program, *work.words(work.out, work.inputs)]
    gpus = {"nvidia.com/gpu": config.gpus} if config.gpus else {}
    # Without a claim the folder is gone with its pod, and the next one fetches the run from its copy.
    folder = {"emptyDir": {}} if config.claim is None else {"persistentVolumeClaim": {"claimName": config.claim}}
    secret = {"envFrom": [{"secretRef": {"name": config.secret}}]} if config.secret else {}
    patience = {"env": [{"name": PATIENCE, "value": str(_GRACE - 10)}]} if config.processes > 1 else {}
    container = {
        "name": name,
        "image": config.image,
        "command": [literal(word) for word in words],
        "workingDir": _FOLDER,
        **secret,
        **patience,
        "resources": {
            "requests": {"cpu": config.cpus, "memory": config.memory},
            "limits": {"memory": config.memory, **gpus},
        },
        "volumeMounts": [{"name": "work", "mountPath": _FOLDER}, {"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    return {
        "terminationGracePeriodSeconds": _GRACE,
        "containers": [container],
        "volumes": [
            {"name": "work", **folder},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},  # processes of a host exchange gradients there
        ],
    }


def literal(word: str) -> str:
    """A word of a container's command. Kubernetes replaces `$(NAME)` there, and `$$` by `$`."""
    return word.replace("$", "$$")
