"""Every option of a run and of its images, declared once: frozen dataclasses whose fields become API, flags, help and
saved config. Those of the other commands are in commands.py.

Free of torch, so that the help of a command is quick. A string literal under a field is its documentation;
`options.py` reads it.
"""

import dataclasses
import math
import os
import reprlib
import types
import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from progan.errors import ConfigError
from progan.per_resolution import MOST, RESOLUTIONS, PerResolution, per_resolution

FixedPrecision = Literal["fp32", "tf32", "bf16", "fp16"]
Precision = Literal["auto", FixedPrecision]
MOST_SEED = 2**63 - 1
MOST_MINUTES = 10**7
"""Limit of --minutes, nineteen years: more are a mistake, and their images could not be counted."""
_TICK_KIMG = {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10}  # the authors' code


def flag(name: str) -> str:
    """How the command line spells an option."""
    return name.replace("_", "-")


def coerce(name: str, value: Any, kind: Any) -> Any:
    """`value`, given as text, JSON or Python, as the field's type. Raises ConfigError with the flag's name."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        absent = value is None or (isinstance(value, str) and value == "none")
        return None if absent else coerce(name, value, members[0])
    try:
        if typing.get_origin(kind) is Literal:
            wanted = f"one of {', '.join(map(str, members))}"
            return members[members.index(value)]
        wanted = {str: "text of one line", bool: "true or false", int: "a whole number"}.get(kind, "a number")
        return PerResolution.of(value) if kind is PerResolution else _plain(value, kind)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise ConfigError(f"--{flag(name)} must be {wanted}; got {reprlib.repr(value)}") from None
    except ConfigError as error:
        raise ConfigError(f"--{flag(name)}: {error}") from None


def _plain(value: Any, kind: Any) -> Any:
    """A str, bool, int or finite float. Raises ValueError, TypeError, KeyError or OverflowError."""
    if kind is str:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        # No name and no path that is meant well has control characters.
        if not isinstance(value, str) or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
            raise ValueError
        return value
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
    result = kind(value)
    cut = kind is int and not isinstance(value, str) and result != value
    if isinstance(value, bool | bytes) or cut or (kind is float and not math.isfinite(result)):
        raise ValueError
    return result


def check_minutes(minutes: float | None, total_kimg: Any) -> None:
    """Raise ConfigError for what is no --minutes, or where the length of the run is given as well."""
    if minutes is not None and not 0 < minutes <= MOST_MINUTES:
        raise ConfigError(f"--minutes must be above 0 and at most {MOST_MINUTES:,}; got {minutes:g}")
    if minutes is not None and total_kimg is not None:
        raise ConfigError("how long is the run? Give either --minutes or --total-kimg")


def at_least(config: object, least: int, *names: str) -> None:
    """Raise ConfigError where one of the options is below `least`."""
    for name in names:
        if getattr(config, name) < least:
            raise ConfigError(f"--{flag(name)} must be at least {least}; got {getattr(config, name)}")


def at_most(config: object, most: float, *names: str) -> None:
    """Raise ConfigError where one of the options is given and above `most`."""
    for name in names:
        if (getattr(config, name) or 0) > most:
            raise ConfigError(f"--{flag(name)} must be at most {most:,}; got {getattr(config, name)}")


def above_zero(config: object, *names: str) -> None:
    """Raise ConfigError where one of the options is not above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(f"--{flag(name)} must be above 0; got {getattr(config, name)}")


@dataclass(frozen=True)
class DatasetConfig:
    """The images that the run is trained on."""

    data: str = "avatars"
    """A prepared dataset, or a SOURCE of `progan prepare`: a folder, archive or array, a published set (`mnist` …),
    s3://…, or `avatars`: drawn faces. Default: none, it must be given."""
    mirror: bool = False
    """Flip half of the real images left to right."""
    labels: bool = False
    """Train with the data's labels: an auxiliary classifier in D, labels as a second input of G."""
    label_column: str | None = None
    """Column of a table beside the images that has the classes; several with commas between are attributes. Default: a
    column called `label` or the like, or the only one."""
    augment: Literal["none", "diffaugment", "ada"] = "none"
    """Change what D sees of reals and fakes at random, for small sets: `diffaugment` always (Zhao et al. 2020), `ada`
    with a probability that follows how well D knows the reals (Karras et al. 2020)."""
    ada_target: float = 0.6
    """With `--augment ada`: the mean sign of D's scores of reals that is aimed at."""
    ada_kimg: float = 500.0
    """With `--augment ada`: thousands of real images in which its probability may rise from 0 to 1; less for short
    runs (100 in the authors' fine-tuning)."""

    def __post_init__(self) -> None:
        if not -1 < self.ada_target < 1:
            raise ConfigError(f"--ada-target must be between -1 and 1; got {self.ada_target}")
        above_zero(self, "ada_kimg")


@dataclass(frozen=True)
class ScheduleConfig:
    """How progress in real images becomes resolution, alpha, batch size and learning rate (paper, section 2)."""

    resolution: int = 64
    """Final width and height in pixels, a power of two."""
    start_resolution: int = 4
    """Resolution of the first stage; equal to the final one for a GAN that does not grow."""
    stable_kimg: PerResolution = field(default=per_resolution(600))
    """Thousands of real images (kimg) at each resolution after its fade (appendix A.1)."""
    stable_epochs: PerResolution | None = None
    """The same in epochs (passes over the data). Default: --stable-kimg is used."""
    fade_kimg: PerResolution = field(default=per_resolution(600))
    """Thousands of real images of the fade into each resolution: `8:300` is the fade from 4 to 8 (appendix A.1)."""
    total_kimg: float | None = None
    """Thousands of real images of the run. Default: the sum of all stages."""
    batch_size: PerResolution = field(default=per_resolution(16))
    """Real images of one D step. `auto`: those of the preset, or less where memory is short."""
    lr: PerResolution = field(default=per_resolution(0.001))
    """Adam's learning rate (appendix A.1)."""
    d_lr: PerResolution | None = None
    """D's own learning rate. Default: that of --lr."""
    d_steps: int = 1
    """D steps for each G step (n_critic)."""
    schedule_every: int = 1
    """Iterations between two evaluations of the schedule; 4 in the authors' code."""

    def __post_init__(self) -> None:
        for name in ("resolution", "start_resolution"):
            if getattr(self, name) not in RESOLUTIONS:
                raise ConfigError(f"--{flag(name)} must be a power of two from 4 to 1024; got {getattr(self, name)}")
        if self.start_resolution > self.resolution:
            raise ConfigError(f"--start-resolution {self.start_resolution} is above --resolution {self.resolution}")
        at_least(self, 1, "d_steps", "schedule_every")
        at_most(self, 2**16, "d_steps", "schedule_every")
        at_most(self, MOST, "total_kimg")
        if any(value < 1 or value != int(value) for _, value in self.batch_size.values):
            raise ConfigError(f"--batch-size must be whole numbers of at least 1; got {self.batch_size}")
        if self.total_kimg is not None:
            above_zero(self, "total_kimg")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam in TensorFlow's form, and the averaged generator (appendix A.1)."""

    beta1: float = 0.0
    """Adam's decay of the first moment."""
    beta2: float = 0.99
    """Adam's decay of the second moment."""
    adam_eps: float = 1e-8
    """Adam's epsilon, added to the root of the uncorrected second moment."""
    ema_decay: float = 0.999
    """Decay of the averaged generator (EMA), applied once per D step."""
    penalty_every: int = 1
    """D steps for each step of D's penalty, which then has its weight times this number; D's learning rate, beta1 and
    beta2 are adapted (lazy regularisation; Karras et al. 2020, appendix B). 1 = the penalty is in every D step."""

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"--{flag(name)} must be at least 0 and below 1; got {getattr(self, name)}")
        above_zero(self, "adam_eps")
        at_least(self, 1, "penalty_every")
        at_most(self, 2**16, "penalty_every")


@dataclass(frozen=True)
class BaseModelConfig:
    """Options of every model, and what the rest of the project must know of one."""

    kind: ClassVar[str]
    """Name on the command line and in files."""
    home: ClassVar[str] = ""
    """Module with `Generator` and `Discriminator` of a model from another package."""
    least_resolution: ClassVar[int] = 8
    grows: ClassVar[bool] = True
    latents: Literal["normal", "uniform"] = "normal"
    """Distribution of latents: N(0, 1), or uniform in -1…1 (the same normal numbers, mapped by their distribution
    function)."""

    @property
    def traceable(self) -> bool:
        """True if G and D are functions of weights, inputs and alpha alone, with neither buffers nor noise."""
        return False

    @property
    def dropout_rate(self) -> float | None:
        """Dropout of D as configured; None for a model without."""
        return None

    @property
    def group_size(self) -> int:
        """Number of samples in a group of D's minibatch statistics, of which batches are best made."""
        return 1

    def groups(self, batch_size: int) -> int:
        """Number of equal parts of a batch that D and G treat independently of each other (1: none)."""
        return 1


@dataclass(frozen=True)
class ProGANConfig(BaseModelConfig):
    """The networks of the paper (section 4, table 2)."""

    kind: ClassVar[str] = "progan"
    least_resolution: ClassVar[int] = 4
    z_dim: int = 512
    """Length of the latent vector."""
    fmap_base: int = 8192
    """Feature maps of the layer at resolution 2^r: min(fmap_base / 2^(r-1), fmap_max)."""
    fmap_max: int = 512
    """Largest number of feature maps of a layer."""
    fmaps: PerResolution | None = None
    """Feature maps of the block at each resolution, such as `4:512,64:256`. Default: by --fmap-base and --fmap-max."""
    d_hidden: int | None = None
    """Units of D's hidden dense layer. Default: by --fmap-base and --fmap-max at 2x2, or those of --fmaps at 4x4."""
    use_wscale: bool = True
    """Equalised learning rate: N(0, 1) weights, scaled by He's constant at run time (section 4.1)."""
    pixel_norm: Literal["g", "both", "none"] = "g"
    """Networks with pixelwise feature normalisation after each convolution (section 4.2)."""
    normalize_latents: bool = True
    """Normalise latents to the hypersphere before G's first layer."""
    mbstd_group: int = 4
    """Images in a group of D's minibatch standard deviation (section 3); 0 = the whole batch, 1 = none."""
    fused_scale: bool = True
    """Up- and downscale inside a strided 4x4 convolution; in D this is a different function, not only a faster one."""
    batch_norm: float = 0.0
    """Momentum of batch normalisation before G's activations; 0 = none, 0.1 is usual, 0.2 is what Keras calls 0.8."""
    layer_norm: bool = False
    """Layer normalisation before the activations of D's 3x3 and 4x4 convolutions."""
    g_activation: Literal["leaky-relu", "relu"] = "leaky-relu"
    """Activation function of G."""
    leak: float = 0.2
    """Slope of leaky ReLU below 0, in G and D."""
    g_first: Literal["paper", "unit-bias", "no-norm"] = "paper"
    """G's first layer: the paper's; with a bias for each unit instead of each map (pytorch_GAN_zoo); or without pixel
    norm behind it (pro_gan_pytorch)."""
    tanh: bool = False
    """Pass G's images through tanh."""
    tanh_last: bool = False
    """With --tanh: fade first and pass the mixture through tanh, instead of both images (pytorch_GAN_zoo)."""
    mbdisc_kernels: int = 0
    """Kernels of minibatch discrimination before D's last layer (Salimans et al. 2016); 0 = none."""
    d_noise: float = 0.0
    """Coefficient of the noise in D that grows as its scores of real images near 1; 0.2 in the paper (appendix B)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "z_dim", "fmap_base", "fmap_max")
        at_least(self, 0, "mbstd_group", "mbdisc_kernels", "d_noise")
        at_most(self, 2**16, "z_dim", "fmap_max", "mbstd_group", "mbdisc_kernels")
        at_most(self, 2**24, "fmap_base")
        if any(not 1 <= value <= 2**16 or value != int(value) for _, value in (self.fmaps or per_resolution(1)).values):
            raise ConfigError(f"--fmaps must be whole numbers from 1 to 65,536; got {self.fmaps}")
        if self.d_hidden is not None and not 1 <= self.d_hidden <= 2**16:
            raise ConfigError(f"--d-hidden must be from 1 to 65,536; got {self.d_hidden}")
        if not 0 <= self.leak <= 1:
            raise ConfigError(f"--leak must be from 0 to 1; got {self.leak}")
        if not 0 <= self.batch_norm <= 1:
            raise ConfigError(f"--batch-norm must be from 0 to 1; got {self.batch_norm}")

    @property
    def traceable(self) -> bool:
        return not self.batch_norm and not self.d_noise

    @property
    def group_size(self) -> int:
        return max(self.mbstd_group, 1)

    def groups(self, batch_size: int) -> int:
        if self.batch_norm or self.mbdisc_kernels:
            return 1
        return batch_size // group_divisor(batch_size, self.mbstd_group)


def group_divisor(n: int, group_size: int) -> int:
    """Largest divisor of n that is not above `group_size`, n itself for 0: samples per group of a batch of n."""
    limit = min(group_size or n, n)
    return next(size for size in range(limit, 0, -1) if n % size == 0)


@dataclass(frozen=True)
class DcganConfig(BaseModelConfig):
    """Strided convolutions with batch normalisation, at one resolution (Radford et al. 2016; PyTorch's tutorial)."""

    kind: ClassVar[str] = "dcgan"
    grows: ClassVar[bool] = False
    z_dim: int = 100
    """Length of the latent vector."""
    width: int = 64
    """Feature maps of the layer next to the images; twice as many each time the resolution halves, up to fmap_max."""
    d_width: int | None = None
    """The same of D, where it is to be narrower or wider than G. Default: --width."""
    fmap_max: int = 512
    """Largest number of feature maps of a layer."""
    dropout: float = 0.0
    """Probability with which each feature map of D is dropped in training, drawn for each image and layer."""

    def __post_init__(self) -> None:
        at_least(self, 1, "z_dim", "width", "fmap_max")
        at_most(self, 2**16, "z_dim", "width", "d_width", "fmap_max")
        if self.d_width is not None:
            at_least(self, 1, "d_width")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"--dropout must be at least 0 and below 1; got {self.dropout}")

    @property
    def dropout_rate(self) -> float | None:
        return self.dropout


@dataclass(frozen=True)
class GrowingBatchNormConfig(BaseModelConfig):
    """A DCGAN that grows: transposed convolutions, batch normalisation, leaky ReLU and tanh; D mirrored."""

    kind: ClassVar[str] = "growing-batchnorm"
    z_dim: int = 100
    """Length of the latent vector."""
    fmap_base: int = 2048
    """Feature maps of the layer at resolution 2^r: min(fmap_base / 2^(r-1), fmap_max)."""
    fmap_max: int = 512
    """Largest number of feature maps of a layer."""

    def __post_init__(self) -> None:
        at_least(self, 1, "z_dim", "fmap_base", "fmap_max")
        at_most(self, 2**16, "z_dim", "fmap_max")
        at_most(self, 2**24, "fmap_base")


@dataclass(frozen=True)
class BaseLossConfig:
    """Options of every loss, and what the rest of the project must know of one."""

    kind: ClassVar[str]
    """Name on the command line and in files."""
    home: ClassVar[str] = ""
    """`module:Class` of a loss from another package."""
    undecided: ClassVar[float | None] = None
    """Score of a D that takes no side, where D's and G's losses are measured against what they are then (--rescue);
    None for a loss in which D's falls without end, or G's does not rise when D wins."""
    boundary: ClassVar[float | None] = None
    """Score between those of reals and those of fakes, from which `--augment ada` counts; None for a loss in which only
    differences of scores matter."""
    wants_reals: ClassVar[bool] = False
    """True if G's loss is given the reals of the last D step."""
    label_weight: float = 1.0
    """Weight of the auxiliary classifier's cross-entropy, where the run is trained with labels."""

    def __post_init__(self) -> None:
        ours = (cls for cls in type(self).__mro__ if cls.__module__ == __name__ and dataclasses.is_dataclass(cls))
        for name in {each.name for cls in ours for each in dataclasses.fields(cls)}:
            if getattr(self, name) < 0:
                raise ConfigError(f"--{flag(name)} must not be negative; got {getattr(self, name)}")

    @property
    def penalised(self) -> bool:
        """True if D's step differentiates gradients."""
        return False


@dataclass(frozen=True)
class WganGpConfig(BaseLossConfig):
    """Wasserstein loss with gradient penalty and drift (appendix A.1)."""

    kind: ClassVar[str] = "wgan-gp"
    gp_weight: float = 10.0
    """Weight of the gradient penalty, lambda."""
    gp_target: float = 1.0
    """Target of the gradient norm, gamma."""
    drift_weight: float = 0.001
    """Weight of the drift term, the squared score of real images, epsilon_drift."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gp_target == 0:
            raise ConfigError("--gp-target must be above 0")

    @property
    def penalised(self) -> bool:
        return self.gp_weight > 0


@dataclass(frozen=True)
class WganConfig(BaseLossConfig):
    """Wasserstein loss with clipped weights instead of a penalty (Arjovsky et al. 2017, algorithm 1)."""

    kind: ClassVar[str] = "wgan"
    clip_weight: float = 0.01
    """Largest magnitude of D's weights, as its layers use them, after every D step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "clip_weight")


@dataclass(frozen=True)
class LsganConfig(BaseLossConfig):
    """Least squares with targets 1 (real), 0 (fake) and 1 (G) (Mao et al. 2017, equation 9)."""

    kind: ClassVar[str] = "lsgan"
    undecided: ClassVar[float | None] = 0.5
    boundary: ClassVar[float | None] = 0.5


@dataclass(frozen=True)
class _R1Config(BaseLossConfig):
    boundary: ClassVar[float | None] = 0.0
    r1_weight: float = 0.0
    """Weight gamma of the R1 penalty gamma/2 |grad D(real)|^2 (Mescheder et al. 2018, equation 9)."""

    @property
    def penalised(self) -> bool:
        return self.r1_weight > 0


@dataclass(frozen=True)
class NonsaturatingConfig(_R1Config):
    """Binary cross-entropy with the non-saturating G loss (Goodfellow et al. 2014, section 3)."""

    kind: ClassVar[str] = "nonsaturating"
    undecided: ClassVar[float | None] = 0.0


@dataclass(frozen=True)
class MinimaxConfig(_R1Config):
    """Binary cross-entropy with the saturating G loss (Goodfellow et al. 2014, equation 1)."""

    kind: ClassVar[str] = "minimax"


@dataclass(frozen=True)
class HingeConfig(_R1Config):
    """Hinge loss of D at margins 1 (real) and -1 (fake) (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17)."""

    kind: ClassVar[str] = "hinge"


@dataclass(frozen=True)
class RelativisticConfig(BaseLossConfig):
    """Cross-entropy of the difference of a real's and a fake's score (Jolicoeur-Martineau 2018), with R1 and R2 (Huang
    et al. 2024)."""

    kind: ClassVar[str] = "relativistic"
    undecided: ClassVar[float | None] = 0.0
    wants_reals: ClassVar[bool] = True
    r1_weight: float = 1.0
    """Weight gamma of the R1 penalty gamma/2 |grad D(real)|^2 (Mescheder et al. 2018, equation 9)."""
    r2_weight: float = 1.0
    """Weight gamma of the R2 penalty gamma/2 |grad D(fake)|^2 (Mescheder et al. 2018, equation 10)."""

    @property
    def penalised(self) -> bool:
        return self.r1_weight > 0 or self.r2_weight > 0


# A model or a loss is a member of one of these unions: names, flags and files follow from it.
ModelConfig = ProGANConfig | DcganConfig | GrowingBatchNormConfig
LossConfig = (
    WganGpConfig | WganConfig | LsganConfig | NonsaturatingConfig | MinimaxConfig | HingeConfig | RelativisticConfig
)
MODEL_CONFIGS: dict[str, type[ModelConfig]] = {cls.kind: cls for cls in typing.get_args(ModelConfig)}
LOSS_CONFIGS: dict[str, type[LossConfig]] = {cls.kind: cls for cls in typing.get_args(LossConfig)}


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how the run is computed and what it leaves behind."""

    seed: int = 0
    """Seed of all random numbers of the run."""
    init: str | None = None
    """Begin with the networks of a run folder, a snapshot, or a file that `progan import` takes. Options of the model
    and --start-resolution are then as they were there, unless they are given. Default: new networks."""
    device: str = "auto"
    """Where to train: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    precision: Precision = "auto"
    """Precision of convolutions; all else is fp32. `auto`: fp32, or the device's 16 bits if a short
    trial finds them faster. `tf32`: fp32 with rounded factors, on GPUs."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile D's and G's steps; on a CPU this needs a C++ compiler. `auto`: where a resolution is trained for long."""
    winograd: Literal["auto", "on", "off"] = "auto"
    """In fp32 on a CPU, compute wide convolutions by Winograd's algorithm: fewer multiplications, and a little less
    exact. `auto`: if a short trial finds it faster."""
    cuda_graphs: bool = True
    """Launch whole steps as CUDA graphs: faster, bit-exact, and a little more GPU memory."""
    threads: int | None = None
    """Threads that compute on a CPU, at most one for each core. Default: OMP_NUM_THREADS, or as many as a short trial
    finds faster than fewer."""
    workers: int = 2
    """Threads that read batches ahead; 0 = none are read ahead."""
    tick_kimg: PerResolution = field(default=per_resolution(_TICK_KIMG))
    """Thousands of real images between two ticks, at which statistics and training states are written."""
    grid_kimg: float | None = None
    """Thousands of real images between two sample grids. Default: every tick."""
    snapshot_kimg: float | None = None
    """Thousands of real images between two snapshots, besides those at the end of each resolution. Default: none."""
    metrics_kimg: float | None = None
    """Thousands of real images between two measurements of G and its average, from 16x16 on. Default: none."""
    metrics_num: int = 2048
    """Images of each kind in a measurement, at most half of the data."""
    wandb: str | None = None
    """Send numbers, sample grids and options to this project of Weights & Biases. Default: none."""
    copy_to: str | None = None
    """Send the run folder to s3://…, gs://…, az://… or another folder at every state; where DIR has no run, the one
    there is fetched and goes on. May change without --allow-change. Default: no copy."""
    stop_when_flat: bool = False
    """End the run when the sliced Wasserstein distance no longer improves: when none of five measurements at the final
    resolution is below the 95 % interval of the best one before them. Needs --metrics-kimg."""

    def __post_init__(self) -> None:
        if any(value == 0 for _, value in self.tick_kimg.values):
            raise ConfigError("--tick-kimg must be above 0")
        for name in ("grid_kimg", "snapshot_kimg", "metrics_kimg"):
            if getattr(self, name) is not None:
                above_zero(self, name)
        if self.stop_when_flat and self.metrics_kimg is None:
            raise ConfigError("--stop-when-flat needs measurements: give --metrics-kimg")
        at_least(self, 0, "seed", "workers")
        if self.threads is not None:
            at_least(self, 1, "threads")
        at_least(self, 8, "metrics_num")
        at_most(self, 1024, "threads")
        at_most(self, MOST, "grid_kimg", "snapshot_kimg", "metrics_kimg", "metrics_num")
        at_most(self, 1024, "workers")
        at_most(self, MOST_SEED, "seed")


@dataclass(frozen=True)
class HealthConfig:
    """What a run does when its numbers go bad (docs/health.md)."""

    on_divergence: Literal["rewind", "stop"] = "rewind"
    """When the run diverges: rewind to the last good state with half the learning rate, at most five times; or stop."""
    rescue: bool = False
    """When D wins (its loss near 0, G's high): halve the learning rate, and raise D's dropout if it has any. Only for
    losses that show when D wins, such as lsgan."""
    held_out: str | None = None
    """A prepared dataset of images not trained on (see `progan data split`), to show whether D memorises. Default:
    none."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run."""

    preset: str = ""
    dataset: DatasetConfig = DatasetConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    model: ModelConfig = ProGANConfig()
    loss: LossConfig = WganGpConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    health: HealthConfig = HealthConfig()

    def __post_init__(self) -> None:
        if self.health.rescue and self.loss.undecided is None:
            able = " or ".join(name for name, loss in LOSS_CONFIGS.items() if loss.undecided is not None)
            raise ConfigError(f"--rescue does not know when D has won with --loss {self.loss.kind}; use --loss {able}")
        if self.optimizer.penalty_every > 1 and not self.loss.penalised:
            raise ConfigError(
                "--penalty-every needs a loss with a penalty, such as --loss wgan-gp or --r1-weight 10; "
                "--penalty-every 1 goes with any"
            )
        if self.runtime.metrics_kimg is not None and self.schedule.resolution < 16:
            raise ConfigError("--metrics-kimg: there are no metrics below 16x16")
        first, final, model = self.schedule.start_resolution, self.schedule.resolution, self.model
        if not model.grows and first != final:
            raise ConfigError(f"--model {model.kind} does not grow: give it --start-resolution {final}, the final one")
        if first < model.least_resolution:
            raise ConfigError(f"--model {model.kind} needs --start-resolution {model.least_resolution} or more")


CHANGEABLE = (
    "total_kimg",
    "device",
    "cuda_graphs",
    "workers",
    "tick_kimg",
    "grid_kimg",
    "snapshot_kimg",
    "metrics_kimg",
    "metrics_num",
    "wandb",
    "stop_when_flat",
)
"""Options that may change when a run is continued (`--allow-change`): its length, where it is computed and what it
writes. None of them changes what is learned (but see `is_inexact`), though results on another device are not
bit-exact."""

INEXACT = ("lr", "d_lr", "ema_decay")
"""Options that may change, too (`--allow-change`), and change what is learned from there on: the run is no longer the
one that was begun, and its history says so. The same holds for images that were added."""


def no_images(config: RunConfig) -> ConfigError:
    """Error for a run without --data, whose preset has none either."""
    return ConfigError(f"preset {config.preset} needs images: name a folder, zip or dataset with --data")


def is_inexact(name: str, config: RunConfig) -> bool:
    """True if changing the option of a run changes what it learns from there on.

    ADA and --rescue look at each tick at what D does, so that they go another way where ticks end elsewhere.
    """
    looks = config.dataset.augment == "ada" or config.health.rescue
    return name in INEXACT or (name in ("tick_kimg", "total_kimg") and looks)


@dataclass(frozen=True)
class PrepareConfig:
    """How raw images become a prepared dataset."""

    resolution: int | None = None
    """Width and height in pixels, a power of two. Default: the largest that at least half of the images fill, by
    a look at some."""
    crop: Literal["center", "none", "celeba", "faces"] = "center"
    """`center`: the largest centred square; `none`: no crop, pad with black to a square; `celeba`: what the authors cut
    out of CelebA's aligned images, 128x128 around (89, 121); `faces`: faces, which are looked for in every picture."""
    faces: Literal["largest", "all"] = "largest"
    """With `--crop faces`: the largest face of a picture, or every one."""
    align: Literal["celeba", "ffhq", "none"] = "celeba"
    """With `--crop faces`: `celeba`: turned and scaled so that the eyes lie where `--crop celeba` has them; `ffhq`: as
    CelebA-HQ and FFHQ were cut out (appendix C of the paper); `none`: an upright square around the face."""
    margin: float | None = None
    """With `--crop faces`: added on each side, as a part of the square. Default: 0.25 with `--align none`, 0 with the
    others."""
    min_face: int | None = None
    """With `--crop faces`: pixels of the smallest face that is taken. Default: 20, or a 40th of the picture's shorter
    side where that is more."""
    min_confidence: float = 0.9
    """With `--crop faces`: how sure the detector must be, 0 to 1."""
    detector: str = "mtcnn"
    """With `--crop faces`: what finds them, `mtcnn`."""
    channels: Literal["auto", "grey", "rgb"] = "auto"
    """One channel or three; `auto` decides by looking at the images."""
    max_images: int | None = None
    """Number of images to take, the first ones. Default: all."""
    seed: int = 0
    """Seed of drawn data (`avatars`)."""
    background: str = "white"
    """Colour behind transparent pixels, a name or #rrggbb."""
    range: str | None = None
    """`LOW:HIGH`: the values that become black and white, of pictures that are not 8 bits; `-1024:3071` for example.
    Default: the smallest usual range (0:1, -1:1, 0:255, 0:1023, 0:4095, 0:16383, 0:65535) that holds all values, else
    their minimum and maximum; windows of DICOM files as they say."""
    strict: bool = False
    """Fail at the first image that cannot be used instead of skipping it."""
    labels: str = "auto"
    """Labels from folder names or a table beside the images (`auto`), none (`none`), or from the table at this path,
    which may be csv, tsv, json or lines of words."""
    label_column: str | None = None
    """Column of a table beside the images that has the classes; several with commas between are attributes. Default: a
    column called `label` or the like, or the only one."""
    partition: Literal["auto", "train", "valid", "test", "all"] = "auto"
    """Part to take of a data set that comes in parts; `auto`: `train` of MNIST, CIFAR and parquet files, else `all`."""
    workers: int = 0
    """Number of processes that decode; 0 = one for each core."""
    device: str = "auto"
    """With `--crop faces`: where they are looked for: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""

    def __post_init__(self) -> None:
        # Numbers of numpy become plain ones, and what is no such value is said to be none, as of a run's options.
        for name, kind in typing.get_type_hints(type(self)).items():
            object.__setattr__(self, name, coerce(name, getattr(self, name), kind))
        if self.resolution is not None and self.resolution not in RESOLUTIONS:
            raise ConfigError(f"--resolution must be a power of two from 4 to 1024; got {self.resolution}")
        if self.max_images is not None:
            at_least(self, 1, "max_images")
        at_least(self, 0, "seed", "workers")
        if self.label_column is not None and self.labels == "none":
            raise ConfigError("--label-column names labels, and --labels none wants none. Give one of them")
        self.range_ends()
        if self.crop != "faces":
            for name in (*FACE_OPTIONS, "device"):
                if getattr(self, name) != getattr(type(self), name):
                    raise ConfigError(f"--{flag(name)} is for --crop faces. Add that, or leave it out")
        if self.min_face is not None:
            at_least(self, 12, "min_face")
        if self.margin is not None:
            at_least(self, 0, "margin")
            at_most(self, 4, "margin")
        at_least(self, 0, "min_confidence")
        at_most(self, 1, "min_confidence")
        at_most(self, 1024, "workers")
        at_most(self, MOST_SEED, "seed")

    def range_ends(self) -> tuple[float, float] | None:
        """Lowest and highest value of `range`. Raises ConfigError."""
        if self.range is None:
            return None
        try:
            low, high = map(float, self.range.split(":"))
            if -math.inf < low < high < math.inf and high - low < math.inf:
                return low, high
        except (ValueError, AttributeError):  # also where it is no text
            pass
        raise ConfigError(f"--range must be LOW:HIGH, two numbers of which the second is larger; got {self.range!r}")


FACE_OPTIONS = ("faces", "align", "margin", "min_face", "min_confidence", "detector")
"""Options of `PrepareConfig` that say which faces are taken, and how."""
