"""Commands of progan as jobs of machines elsewhere. A target is a file of this folder and a line of TARGETS.

The file has two functions: `describe(work, config)` returns the text of the file that the target takes, without any
package but progan's own; `submit(work, config)` hands it over and returns a line on what became of it.
"""

from dataclasses import dataclass

from progan.commands import AzureConfig, KubernetesConfig, SkypilotConfig, SlurmConfig, SubmitConfig


@dataclass(frozen=True)
class Target:
    """What takes jobs."""

    config: type[SubmitConfig]
    about: str
    """Help of its command: the first line is its summary."""


TARGETS: dict[str, Target] = {
    "slurm": Target(
        SlurmConfig,
        """Train on a cluster that is run by SLURM.

        Writes DIR/job.sbatch and hands it to sbatch. Before its time limit the job saves and submits itself again,
        until the run is finished. Paths are those of the cluster.

            progan submit slurm folder128 --data photos/ --out runs/photos --time 12:00:00 --partition gpu
            progan submit slurm mnist32 --data mnist --out runs/digits --array 0-4 --gpus 0
            progan submit slurm --compare --data mnist --out comparison --budget-minutes 60
        """,
    ),
    "kubernetes": Target(
        KubernetesConfig,
        """Train on a Kubernetes cluster.

        Hands a Job to kubectl, or for several hosts a PyTorchJob, which Kubeflow's training operator carries out. Paths
        are those in the volume of --claim.

            progan submit kubernetes folder128 --data photos/ --out runs/photos --claim work --image me/progan
            progan submit kubernetes authors1024-8gpu --data hq/ --out hq --claim work --hosts 2 --gpus 4
        """,
    ),
    "azure": Target(
        AzureConfig,
        """Train on Azure Machine Learning.

        Uploads a wheel of this progan, and images that are here, and creates a command job. The run folder is kept in
        the workspace's datastore, where a preempted job finds it and goes on.

            progan submit azure folder128 --data photos/ --out photos
            progan submit azure folder128 --data azureml:photos:1 --out photos --cluster gpu-cluster --dry-run
        """,
    ),
    "skypilot": Target(
        SkypilotConfig,
        """Train on any cloud through SkyPilot.

        Hands a task to `sky jobs launch`, which finds a machine, and another one when it is preempted. The run folder
        is kept in a bucket.

            progan submit skypilot folder128 --data faces/ --out faces --bucket s3://mine/runs
            progan submit skypilot folder128 --data faces/ --out faces --bucket s3://mine --dry-run
        """,
    ),
}
"""Name of a target -> what its command needs; free of torch."""
