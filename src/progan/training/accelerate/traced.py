"""The gradients of D and G steps as functions, traced once for each stage, so that autograd has nothing left to do.

`make_fx` notes the operations of an eager step (and sees through the penalty's double backward, which torch.compile
does not). They are called one after the other, or compiled by inductor: a few large kernels where PyTorch has a
thousand. A CUDA GPU gets either as graphs (training/accelerate/cuda_graphs.py). Networks with buffers or noise of their
own (batch norm, dropout) are not for this.
"""

import importlib.util
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from progan.config import ModelConfig, ProGANConfig, RunConfig
from progan.data.cache import cache_folder
from progan.losses import Loss
from progan.models import Discriminator, Generator, ImageShape
from progan.models.layers import wide
from progan.randomness import Rng
from progan.schedule import Phase, Stage
from progan.training.accelerate.cuda_graphs import CaptureError, Function, Part, captured, has_graphs
from progan.training.numerics import Numerics
from progan.training.preflight.memory import ran_out
from progan.training.step import Terms, critic, total


def traceable(config: ModelConfig) -> bool:
    """Whether the networks are functions of weights, inputs and alpha alone."""
    return isinstance(config, ProGANConfig) and not config.batch_norm and not config.d_noise


def missing(device: torch.device) -> str | None:
    """What a compiled step would need and this machine lacks; None if nothing."""
    if device.type == "cpu":
        names = [os.environ.get("CXX", "cl" if sys.platform == "win32" else "g++"), "clang++"]
        return None if any(shutil.which(name) for name in names) else "a C++ compiler"
    if device.type != "cuda":
        return f"a compiler for {device.type}"
    if torch.cuda.get_device_capability(device) < (7, 0):
        return "a GPU of compute capability 7 or more"
    names = [os.environ.get("CC", "cl" if sys.platform == "win32" else "gcc"), "clang"]
    found = importlib.util.find_spec("triton") and any(shutil.which(name) for name in names)
    return None if found else "Triton and a C compiler"


class Tracer:
    """Makes the steps of one run, each when its stage begins; compiled kernels are kept on the disk for next time."""

    def __init__(
        self,
        config: RunConfig,
        G: Generator,
        D: Discriminator,
        loss: Loss,
        shape: ImageShape,
        numerics: Numerics,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._networks, self._shape, self._dtype, self._tell = (G, D, loss), shape, numerics.dtype, tell
        self._traceable = traceable(config.model)
        self._graphs = config.runtime.cuda_graphs and has_graphs(torch.device(numerics.device))
        self._built: tuple[tuple[int, Phase, int, bool], TracedStep | None] | None = None

    def has(self, stage: Stage, size: int, kernels: bool) -> bool:
        """Whether this is what `step` was asked for last."""
        return self._built is not None and self._built[0] == (*stage.key, size, kernels)

    def step(self, stage: Stage, size: int, kernels: bool) -> "TracedStep | None":
        """For batches of `size` images, with kernels compiled for it or with PyTorch's own.

        None for networks that cannot be traced, and, after a line that says so, where it could not be made. Raises what
        says that memory ran out.
        """
        if self._built is None or not self.has(stage, size, kernels):
            self._built = None  # before the next is made, with the gradients, which lie in its memory
            for network in self._networks[:2]:
                network.zero_grad()
            built = self._build(stage, size, kernels) if self._traceable else None
            self._built = (*stage.key, size, kernels), built
        return self._built[1]

    def drop(self) -> None:
        """Be without the step that was asked for last, as another process is that could not make it."""
        if self._built is not None:
            self._built = self._built[0], None

    def _build(self, stage: Stage, size: int, kernels: bool) -> "TracedStep | None":
        name, start = f"{stage.resolution}x{stage.resolution} {stage.phase}", time.perf_counter()
        if kernels:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder().parent / "compiled"))
            self._tell(f"compiling {name}: a minute or two, and seconds the next time")
        try:
            step = TracedStep(*self._networks, self._shape, stage, size, self._dtype, kernels, self._launched)
        except Exception as error:  # whatever the compiler trips over: training can do without it
            if ran_out(error):
                raise
            reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
            self._tell(f"warning: {name} goes on {'uncompiled' if kernels else 'eager'} ({reason})")
            return None
        if kernels:
            self._tell(f"compiled {name} in {time.perf_counter() - start:.0f} s")
        return step

    def _launched(self, parts: Sequence[Part]) -> Sequence[Function]:
        if not self._graphs:
            return launched(parts)
        try:
            return captured(parts)
        except CaptureError as error:
            self._tell(f"warning: training goes on without CUDA graphs, perhaps slower ({error})")
            self._graphs = False
            return launched(parts)


def launched(parts: Sequence[Part]) -> Sequence[Function]:
    """The functions as they are, whose kernels are launched one by one."""
    return [function for function, _ in parts]


class TracedStep:
    """Gradients of one stage and batch size. As with the eager ones, they end up in the parameters' `grad`.

    Without `kernels` it is traced, but not compiled. `finish` may replace its three functions by others that do the
    same.
    """

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        loss: Loss,
        shape: ImageShape,
        stage: Stage,
        size: int,
        dtype: torch.dtype,
        kernels: bool = True,
        finish: Callable[[Sequence[Part]], Sequence[Function]] = launched,
    ) -> None:
        self._G, self._D, self._loss, self._dtype = G, D, loss, dtype
        self._g, self._d = list(G.parameters()), list(D.parameters())
        self._resolution, self._slope = stage.resolution, stage.resolution / G.resolution
        self._fades = stage.phase == "fade"
        rng = Rng(0, 0, "init", self._g[0].device)
        z, u = rng.normal(size, G.z_dim), rng.uniform(size)
        labels = z.new_ones(size, G.label_size) if G.label_size else None
        scale = z.new_ones(()) if dtype == torch.float16 else None
        rest, g, d = self._rest(stage, labels), _detached(self._g), _detached(self._d)
        examples: list[list[Any]] = [[g, z, rest], [], [g, d, z, rest, scale]]
        draw = _compile(self._generate, examples[0], kernels)
        (fakes,) = draw(*examples[0])
        examples[1] = [d, _contiguous(fakes).clone(), fakes, u, rest, scale]
        self._d_gradients = _Gradients(self._trace_d, self._d, examples[1], kernels)
        self._g_gradients = _Gradients(self._trace_g, self._g, examples[2], kernels)
        functions = draw, self._d_gradients.call, self._g_gradients.call
        self._draw, self._d_gradients.call, self._g_gradients.call = finish(list(zip(functions, examples, strict=True)))

    def d_terms(
        self, reals: Tensor, labels: Tensor | None, stage: Stage, rng: Rng, scale: Tensor | None = None
    ) -> Terms:
        """The loss's terms on processed reals [N, C, R, R], and their gradients, times `scale` where it is fp16."""
        rest = self._rest(stage, labels)
        (fakes,) = self._draw(_detached(self._g), rng.normal(len(reals), self._G.z_dim), rest)
        u = rng.uniform(len(reals))
        return self._d_gradients(_detached(self._d), _contiguous(reals), fakes, u, rest, scale)

    def g_terms(self, size: int, labels: Tensor | None, stage: Stage, rng: Rng, scale: Tensor | None = None) -> Terms:
        """The loss's terms on fresh latents, and their gradients, likewise."""
        z = rng.normal(size, self._G.z_dim)
        return self._g_gradients(_detached(self._g), _detached(self._d), z, self._rest(stage, labels), scale)

    def _rest(self, stage: Stage, labels: Tensor | None) -> list[Tensor | None]:
        """Alpha, a tensor while it changes, so that a fade is built once; and the labels."""
        alpha = torch.full((), stage.alpha, dtype=wide(self._dtype), device=self._g[0].device) if self._fades else None
        return [alpha, labels]

    def _generate(self, weights: Sequence[Tensor], z: Tensor, rest: Sequence[Tensor | None]) -> list[Tensor]:
        alpha, labels = rest
        inputs = (z.to(self._dtype), labels, self._resolution, 1.0 if alpha is None else alpha)
        return [functional_call(self._G, _named(self._G, weights), inputs)]

    def _trace_d(
        self,
        weights: Sequence[Tensor],
        reals: Tensor,
        fakes: Tensor,
        u: Tensor,
        rest: Sequence[Tensor | None],
        scale: Tensor | None,
    ) -> tuple[Terms, Sequence[Tensor | None]]:
        alpha, labels = rest
        weights = [weight.requires_grad_() for weight in _detached(weights)]
        D = self._critic(weights, alpha, self._slope)
        return _differentiate(self._loss.d_terms(D, reals, fakes, labels, _Drawn(u)), weights, scale)

    def _trace_g(
        self,
        weights: Sequence[Tensor],
        d: Sequence[Tensor],
        z: Tensor,
        rest: Sequence[Tensor | None],
        scale: Tensor | None,
    ) -> tuple[Terms, Sequence[Tensor | None]]:
        weights = [weight.requires_grad_() for weight in _detached(weights)]
        (fakes,) = self._generate(weights, z, rest)
        return _differentiate(self._loss.g_terms(self._critic(d, rest[0]), fakes, rest[1]), weights, scale)

    def _critic(self, weights: Sequence[Tensor], alpha: Tensor | None, slope: float = 1.0) -> Any:
        def D(*inputs: Any) -> Any:
            return functional_call(self._D, _named(self._D, weights), inputs)

        return critic(D, 1.0 if alpha is None else alpha, self._dtype, slope=slope)


class _Gradients:
    """A function that returns terms and gradients; the latter are put where the optimiser looks for them."""

    def __init__(
        self, function: Callable[..., Any], parameters: list[nn.Parameter], example: list[Any], kernels: bool
    ) -> None:
        self._parameters = parameters
        self._names: list[str] = []
        self._used: list[int] = []

        def flat(*arguments: Any) -> list[Tensor]:
            terms, gradients = function(*arguments)
            self._names = list(terms)
            self._used = [i for i, gradient in enumerate(gradients) if gradient is not None]
            return [*terms.values(), *(gradients[i] for i in self._used)]

        compiled = _compile(flat, example, kernels)
        shapes = [torch.empty_like(parameters[i], device="meta") for i in self._used]

        def laid_out(*arguments: Any) -> list[Tensor]:
            """A fused optimiser takes gradients as the parameters lie in memory."""
            results = compiled(*arguments)
            terms, gradients = results[: len(self._names)], results[len(self._names) :]
            return [*terms, *map(_like, gradients, shapes)]

        self.call: Function = laid_out

    def __call__(self, *arguments: Any) -> Terms:
        results = self.call(*arguments)
        for parameter in self._parameters:
            parameter.grad = None
        for i, gradient in zip(self._used, results[len(self._names) :], strict=True):
            self._parameters[i].grad = gradient
        return dict(zip(self._names, results, strict=False))


class _Drawn:
    """Gives a loss the random numbers that were drawn before: one for each image is all that any of them takes."""

    def __init__(self, uniform: Tensor) -> None:
        self._uniform = uniform

    def uniform(self, n: int) -> Tensor:
        return self._uniform


def _compile(function: Function, example: list[Any], kernels: bool) -> Function:
    """Traced, and compiled if it is to have kernels of its own, for tensors like those of the example."""
    # On tensors without numbers, which takes half the time; through a function whose arguments do not count `self`.
    graph = make_fx(lambda *arguments: function(*arguments), tracing_mode="fake")(*example)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    if not kernels:
        traced: Function = torch.no_grad()(graph)
        traced(*example)  # fails here, if ever: where tensors with numbers lie in memory otherwise than foretold
        return traced
    from torch._inductor import config  # slow

    # By default kernels for a GPU are chosen by their speed at the moment, sums in another order among them.
    options: dict[str, Any] = {"deterministic": True} if hasattr(config, "deterministic") else {}
    compiled: Function = torch.no_grad()(torch.compile(graph, dynamic=False, options=options))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TensorFloat32")  # advice to round where exact numbers were asked for
        compiled(*example)  # builds
    return compiled


def _differentiate(
    terms: Terms, weights: Sequence[Tensor], scale: Tensor | None
) -> tuple[Terms, Sequence[Tensor | None]]:
    gradients = torch.autograd.grad(total(terms, scale), weights, allow_unused=True)
    return {name: term.detach() for name, term in terms.items()}, gradients


def _named(network: nn.Module, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    return dict(zip((name for name, _ in network.named_parameters()), weights, strict=True))


def _contiguous(images: Tensor) -> Tensor:
    """In strides, too, where grey images leave a choice: others would be another program to the compiler."""
    return images.reshape(-1).view(images.shape)


def _like(gradient: Tensor, parameter: Tensor) -> Tensor:
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, device=gradient.device).copy_(gradient)


def _detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors]
