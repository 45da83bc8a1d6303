"""Options of the commands that compare, export, show and submit runs, as config.py has those of a run."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from progan.config import MOST_SEED, Precision, above_zero, at_least, at_most
from progan.errors import ConfigError


@dataclass(frozen=True)
class ProtocolConfig:
    """What is the same for all models that are compared (docs/comparing.md)."""

    seeds: int = 3
    """Number of runs of every model."""
    seed: int = 0
    """Seed of the first run; the others have the following ones."""
    resolution: int | None = None
    """Width and height in pixels. Default: that of the data."""
    width: int | None = None
    """Feature maps of ProGAN's widest layers and of DCGAN's layer next to the images. Default: as in the presets."""
    metrics: str = "swd,ms-ssim"
    """Metrics of the finished generators, see `progan evaluate --help`."""
    num: int = 2048
    """Images of each kind in a measurement, fewer where the data is small."""
    measurements: int = 8
    """Number of measurements of every run during training."""
    jobs: int = 1
    """Number of runs at the same time; they share the threads evenly. 0 = one, in this process."""
    mirror: bool = False
    """Flip half of the real images left to right."""
    device: str = "auto"
    """Where to train: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    precision: Precision = "auto"
    """Precision of all runs, see `progan train --help`."""

    def __post_init__(self) -> None:
        at_least(self, 1, "seeds", "measurements")
        at_least(self, 0, "seed", "jobs")
        at_most(self, MOST_SEED // 2, "seed")
        at_least(self, 8, "num")
        if self.width is not None:
            at_least(self, 1, "width")


@dataclass(frozen=True)
class CompareConfig(ProtocolConfig):
    """Several GANs under one protocol (docs/comparing.md)."""

    models: str = "progan,dcgan,lsgan"
    """Presets, or `progan`, `dcgan`, `lsgan` for those that fit the data; one given twice is compared with itself. With
    options and names: "progan; smooth = progan --loss lsgan". Or a file with one on each line. At most 20."""
    budget_kimg: float | None = None
    """Thousands of real images in every run; schedules are stretched to this. Default: --budget-minutes is used."""
    budget_minutes: float | None = None
    """Minutes of training of every run, without measuring; schedules are stretched by the speed of a short trial.
    Default: --budget-kimg is used."""
    controls: bool = False
    """Rank controls as well: held-out images, images without one label, training images, untrained networks."""

    def __post_init__(self) -> None:
        if (self.budget_kimg is None) == (self.budget_minutes is None):
            raise ConfigError("how long is each run? Give either --budget-kimg or --budget-minutes")
        for name in ("budget_kimg", "budget_minutes"):
            if getattr(self, name) is not None:
                above_zero(self, name)
        super().__post_init__()


@dataclass(frozen=True)
class SweepConfig(ProtocolConfig):
    """Options of a GAN, tried under a budget (docs/comparing.md)."""

    seeds: int = 2
    """Number of runs of every candidate."""
    minutes: float | None = None
    """Minutes of training of all runs together, without trials and measuring. Default: --kimg is used."""
    kimg: float | None = None
    """Thousands of real images in a run that is never dropped. Default: --minutes is used."""
    halving: float = 2.0
    """Factor between the training times of a rung and the next one."""

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.kimg is None):
            raise ConfigError("how long does it take? Give either --minutes (all runs) or --kimg (each whole run)")
        for name in ("minutes", "kimg"):
            if getattr(self, name) is not None:
                above_zero(self, name)
        if not 1.1 <= self.halving <= 100:
            raise ConfigError(f"--halving must be from 1.1 to 100; got {self.halving:g}")
        super().__post_init__()


@dataclass(frozen=True)
class ExportConfig:
    """What every export is told (docs/exporting.md)."""

    resolutions: str | None = None
    """Resolutions to export, for example 16,32. Default: all that have a snapshot."""
    title: str | None = None
    """Name on the card and on the page. Default: made of that of the data."""
    licence: str | None = None
    """Licence of the weights, for example mit or cc-by-nc-4.0. Default: that of the snapshot."""


@dataclass(frozen=True)
class OnnxConfig(ExportConfig):
    """ONNX graphs."""

    weights: Literal["fp32", "fp16"] = "fp32"
    """Precision in which weights are stored; `fp16` halves the file. Arithmetic is fp32."""


@dataclass(frozen=True)
class WebConfig(ExportConfig):
    """A page that makes pictures on the device that shows it."""

    weights: Literal["fp32", "fp16"] = "fp16"
    """Precision in which weights are stored; `fp16` halves the download. Arithmetic is fp32."""
    icon_seed: int = 0
    """Seed of the picture that becomes the icon."""
    runtime: str | None = None
    """A folder with the files of onnxruntime-web, or its package as npm packs it (.tgz). Default: fetched once by npm,
    and kept in the cache."""
    webgpu: bool = False
    """Also put in what WebGPU needs, 27 MB more; experimental."""

    def __post_init__(self) -> None:
        at_least(self, 0, "icon_seed")
        at_most(self, MOST_SEED, "icon_seed")


@dataclass(frozen=True)
class AndroidConfig(WebConfig):
    """An Android app with the page inside."""

    name: str | None = None
    """Name under the app's icon. Default: the title."""
    package: str | None = None
    """The app's name for Android, for example org.example.faces: installing an app replaces the one of the same name.
    Default: made of the title."""
    icon: str | None = None
    """An image file for the app's icon. Default: the picture of --icon-seed."""
    version_name: str = "1.0"
    """Version that users see."""
    version_code: int = 1
    """Number of the version: a phone installs a higher one over a lower one."""
    keystore: str | None = None
    """Java keystore with your own key (RSA). Default: a key that is made once and kept."""
    key_alias: str | None = None
    """Name of the key in the keystore. Default: the only one."""
    keystore_password: str | None = None
    """Where the keystore's password is: env:VARIABLE or file:PATH. Default: asked for."""
    project: bool = False
    """Write a Gradle project for Android Studio into the folder OUT instead of building the app."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "version_code")
        at_most(self, 2_100_000_000, "version_code")  # Google Play's limit
        if self.package is not None and not re.fullmatch(r"[a-zA-Z]\w*(\.[a-zA-Z]\w*)+", self.package, re.ASCII):
            raise ConfigError(f"--package: {self.package} is no name such as org.example.faces")
        if not re.fullmatch(r"[\w.+-]{1,50}", self.version_name, re.ASCII):
            raise ConfigError(f"--version-name: {self.version_name!r} is no version such as 1.0")
        if self.keystore is None and (self.key_alias or self.keystore_password):
            raise ConfigError("--key-alias and --keystore-password belong to --keystore")
        if self.keystore_password is not None and not self.keystore_password.startswith(("env:", "file:")):
            raise ConfigError("--keystore-password says where the password is: env:VARIABLE or file:PATH")


@dataclass(frozen=True)
class AppConfig:
    """The page that a server on this machine shows (docs/app.md)."""

    host: str = "127.0.0.1"
    """Address to listen at. Beyond this machine, for instance with 0.0.0.0, nothing is shown without the token."""
    port: int = 7860
    """Port to listen at, or the next one that is free; 0 takes any."""
    token: str | None = None
    """Secret that the page's address holds, at least 16 letters. Default: a new one at each start."""
    open: bool = True
    """Open the page in the browser, where there is one."""
    reals: bool = True
    """Show training images: those of a run's data, those nearest to what was found, and the pages of runs and
    comparisons, which have some."""
    device: str = "auto"
    """Where pictures are computed: `auto`, `cpu`, `cuda`, `cuda:1`, …"""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--port must be from 0 to 65535; got {self.port}")
        if self.token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,128}", self.token):
            raise ConfigError("--token must have 16 to 128 letters, digits, - or _")


@dataclass(frozen=True)
class SubmitConfig:
    """What every job is told that is handed to somebody else's machines (docs/submitting.md)."""

    name: str | None = None
    """Name of the job, letters, digits and hyphens. Default: that of the run folder."""
    gpus: int = 1
    """GPUs of each host, a process for each; 0 for a CPU."""
    hosts: int = 1
    """Hosts that train together."""

    def __post_init__(self) -> None:
        at_least(self, 0, "gpus")
        at_least(self, 1, "hosts")
        at_most(self, 1024, "gpus", "hosts")
        for each in dataclasses.fields(self):
            if each.type is int and each.name not in ("gpus", "hosts"):
                at_least(self, 1, each.name)

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return self.hosts * max(self.gpus, 1)


@dataclass(frozen=True)
class SlurmConfig(SubmitConfig):
    """A batch job of SLURM."""

    time: str = "24:00:00"
    """Time limit, as `sbatch --time` takes it; the job submits itself again until the run is finished."""
    stop_before: int = 300
    """Seconds before the time limit at which the run is told to save and stop."""
    array: str | None = None
    """Seeds, such as 0-4 or 1,3,5: a run for each, in DIR/seed-N. Default: one run."""
    partition: str | None = None
    """Partition. Default: the cluster's."""
    account: str | None = None
    """Account that pays. Default: the user's."""
    cpus: int = 8
    """Cores of each host."""
    memory: str = "32G"
    """Memory of each host."""
    setup: str | None = None
    """Line of shell that runs first, such as `module load cuda`. Default: none."""
    python: str | None = None
    """Python that has progan, on the cluster. Default: the one that runs this command."""


@dataclass(frozen=True)
class KubernetesConfig(SubmitConfig):
    """A Job of Kubernetes; for several hosts a PyTorchJob of Kubeflow's training operator."""

    image: str = "progan:latest"
    """Image with progan, see the Dockerfile."""
    claim: str | None = None
    """PersistentVolumeClaim in which images and run folder are; it becomes the working directory. Default: none, which
    needs --copy-to, and one host."""
    secret: str | None = None
    """Secret whose entries are environment variables of the job, such as AWS_ACCESS_KEY_ID. Default: none."""
    namespace: str | None = None
    """Namespace. Default: that of the current context."""
    cpus: int = 4
    """Cores of each host."""
    memory: str = "16Gi"
    """Memory of each host."""
    retries: int = 6
    """Times that a run which failed is started again; one that was evicted or preempted always is."""


@dataclass(frozen=True)
class AzureConfig(SubmitConfig):
    """A command job of Azure Machine Learning."""

    size: str = "Standard_NC24ads_A100_v4"
    """Size of the machines, which are Azure's own (serverless) without --cluster."""
    cluster: str | None = None
    """Compute cluster of the workspace. Default: none, serverless."""
    spot: bool = True
    """Take spare capacity, cheaper and preempted at times, where there is no --cluster."""
    datastore: str = "workspaceblobstore"
    """Datastore in which the run folder is kept, below `progan/`."""
    image: str = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
    """Image that the environment begins with."""
    subscription: str | None = None
    """Subscription. Default: that of the workspace's config.json, as the portal offers it, here or above."""
    resource_group: str | None = None
    """Resource group. Default: as for --subscription."""
    workspace: str | None = None
    """Workspace. Default: as for --subscription."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({value is None for value in (self.subscription, self.resource_group, self.workspace)}) > 1:
            raise ConfigError("--subscription, --resource-group and --workspace go together; give all or none")


@dataclass(frozen=True)
class SkypilotConfig(SubmitConfig):
    """A managed job of SkyPilot, on whatever cloud is cheapest."""

    accelerator: str = "A100"
    """Kind of GPU, see `sky show-gpus`."""
    bucket: str | None = None
    """Address of the bucket in which the run folder is kept, such as `s3://mine/runs`. Default: none, it must be
    given."""
    infra: str | None = None
    """Cloud, region or cluster, such as `aws/us-east-1`. Default: the cheapest."""
    spot: bool = True
    """Take spare capacity, cheaper and preempted at times."""
    disk: int = 256
    """GB of disk of each host."""
