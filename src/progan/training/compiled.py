"""The gradients of D and G steps as compiled functions: a few large kernels where PyTorch launches a thousand.

What the eager step computes is traced once (`make_fx` sees through the penalty's double backward, which torch.compile
does not) and given to inductor. Networks with buffers or noise of their own (batch norm, dropout) are not for this.
"""

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from progan.config import ModelConfig, ProGANConfig
from progan.data.cache import cache_folder
from progan.losses import Loss
from progan.models import Discriminator, Generator, ImageShape
from progan.models.layers import wide
from progan.randomness import Rng
from progan.schedule import Phase, Stage
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


class Compiler:
    """Builds the steps of one run, each when its stage begins; the kernels are kept on the disk for the next time."""

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        loss: Loss,
        shape: ImageShape,
        dtype: torch.dtype,
        tell: Callable[[str], None],
    ) -> None:
        self._networks, self._shape, self._dtype, self._tell = (G, D, loss), shape, dtype, tell
        self._built: tuple[tuple[int, Phase, int], CompiledStep] | None = None

    def has(self, stage: Stage, size: int) -> bool:
        """Whether this is the step that was built last."""
        return self._built is not None and self._built[0] == (*stage.key, size)

    def step(self, stage: Stage, size: int) -> "CompiledStep | None":
        """For batches of `size` images; None, and a line that says so, if it could not be built."""
        if self._built is not None and self.has(stage, size):
            return self._built[1]
        self._built = None
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder().parent / "compiled"))
        name, start = f"{stage.resolution}x{stage.resolution} {stage.phase}", time.perf_counter()
        self._tell(f"compiling {name}: a minute or two, and seconds the next time")
        try:
            step = CompiledStep(*self._networks, self._shape, stage, size, self._dtype)
        except Exception as error:  # whatever the compiler trips over: training can do without it
            reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
            self._tell(f"warning: {name} goes on uncompiled ({reason})")
            return None
        self._tell(f"compiled {name} in {time.perf_counter() - start:.0f} s")
        self._built = (*stage.key, size), step
        return step


class CompiledStep:
    """Gradients of one stage and batch size. As with the eager ones, they end up in the parameters' `grad`."""

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        loss: Loss,
        shape: ImageShape,
        stage: Stage,
        size: int,
        dtype: torch.dtype,
    ) -> None:
        self._G, self._D, self._loss, self._dtype = G, D, loss, dtype
        self._g, self._d = list(G.parameters()), list(D.parameters())
        self._resolution, self._slope = stage.resolution, stage.resolution / G.resolution
        self._fades = stage.phase == "fade"
        images = torch.zeros(size, shape.channels, stage.resolution, stage.resolution, device=self._g[0].device)
        z = images.new_ones(size, G.z_dim)
        labels = images.new_ones(size, G.label_size) if G.label_size else None
        rest, g, d = self._rest(stage, labels), _detached(self._g), _detached(self._d)
        scale = images.new_ones(()) if dtype == torch.float16 else None
        self._fakes = _compile(self._generate, [g, z, rest])
        fakes, u = self._fakes(g, z, rest), images.new_full((size,), 0.5)  # lie in memory as they will
        self._d_gradients = _Gradients(self._trace_d, self._d, [d, images, fakes, u, rest, scale])
        self._g_gradients = _Gradients(self._trace_g, self._g, [g, d, z, rest, scale])

    def d_terms(
        self, reals: Tensor, labels: Tensor | None, stage: Stage, rng: Rng, scale: Tensor | None = None
    ) -> Terms:
        """The loss's terms on processed reals [N, C, R, R], and their gradients, times `scale` where it is fp16."""
        rest = self._rest(stage, labels)
        reals = reals.reshape(-1).view(reals.shape)  # strides of grey images, too, as those it was built with
        fakes = self._fakes(_detached(self._g), rng.normal(len(reals), self._G.z_dim), rest)
        return self._d_gradients(_detached(self._d), reals, fakes, rng.uniform(len(reals)), rest, scale)

    def g_terms(self, size: int, labels: Tensor | None, stage: Stage, rng: Rng, scale: Tensor | None = None) -> Terms:
        """The loss's terms on fresh latents, and their gradients, likewise."""
        z = rng.normal(size, self._G.z_dim)
        return self._g_gradients(_detached(self._g), _detached(self._d), z, self._rest(stage, labels), scale)

    def _rest(self, stage: Stage, labels: Tensor | None) -> list[Tensor | None]:
        """Alpha, a tensor while it changes, so that a fade is built once; and the labels."""
        alpha = torch.full((), stage.alpha, dtype=wide(self._dtype), device=self._g[0].device) if self._fades else None
        return [alpha, labels]

    def _generate(self, weights: Sequence[Tensor], z: Tensor, rest: Sequence[Tensor | None]) -> Tensor:
        alpha, labels = rest
        inputs = (z.to(self._dtype), labels, self._resolution, 1.0 if alpha is None else alpha)
        images: Tensor = functional_call(self._G, _named(self._G, weights), inputs)
        return images

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
        fakes = self._generate(weights, z, rest)
        return _differentiate(self._loss.g_terms(self._critic(d, rest[0]), fakes, rest[1]), weights, scale)

    def _critic(self, weights: Sequence[Tensor], alpha: Tensor | None, slope: float = 1.0) -> Any:
        def D(*inputs: Any) -> Any:
            return functional_call(self._D, _named(self._D, weights), inputs)

        return critic(D, 1.0 if alpha is None else alpha, self._dtype, slope=slope)


class _Gradients:
    """A compiled function that returns terms and gradients; the latter are put where the optimiser looks for them."""

    def __init__(self, function: Callable[..., Any], parameters: list[nn.Parameter], example: list[Any]) -> None:
        self._parameters = parameters
        self._names: list[str] = []
        self._used: list[int] = []

        def flat(*arguments: Any) -> list[Tensor]:
            terms, gradients = function(*arguments)
            self._names = list(terms)
            self._used = [i for i, gradient in enumerate(gradients) if gradient is not None]
            return [*terms.values(), *(gradients[i] for i in self._used)]

        self._call = _compile(flat, example)

    def __call__(self, *arguments: Any) -> Terms:
        results = self._call(*arguments)
        terms, gradients = results[: len(self._names)], results[len(self._names) :]
        for parameter in self._parameters:
            parameter.grad = None
        for i, gradient in zip(self._used, gradients, strict=True):
            parameter = self._parameters[i]
            # A fused optimiser takes both as they lie in memory.
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        return dict(zip(self._names, terms, strict=True))


class _Drawn:
    """Gives a loss the random numbers that were drawn before: one for each image is all that any of them takes."""

    def __init__(self, uniform: Tensor) -> None:
        self._uniform = uniform

    def uniform(self, n: int) -> Tensor:
        return self._uniform


def _compile(function: Callable[..., Any], example: list[Any]) -> Callable[..., Any]:
    """Traced and compiled for tensors like those of the example, outside autograd."""
    graph = make_fx(lambda *arguments: function(*arguments))(*example)  # which does not count `self`
    graph.graph.eliminate_dead_code()
    graph.recompile()
    from torch._inductor import config  # slow

    # By default kernels for a GPU are chosen by their speed at the moment, sums in another order among them.
    options: dict[str, Any] = {"deterministic": True} if hasattr(config, "deterministic") else {}
    compiled = torch.no_grad()(torch.compile(graph, dynamic=False, options=options))
    compiled(*example)  # builds
    return compiled


def _differentiate(
    terms: Terms, weights: Sequence[Tensor], scale: Tensor | None
) -> tuple[Terms, Sequence[Tensor | None]]:
    gradients = torch.autograd.grad(total(terms, scale), weights, allow_unused=True)
    return {name: term.detach() for name, term in terms.items()}, gradients


def _named(network: nn.Module, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    return dict(zip((name for name, _ in network.named_parameters()), weights, strict=True))


def _detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors]
