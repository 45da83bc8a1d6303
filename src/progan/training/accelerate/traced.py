"""Traced executor: the gradients of a stage's D and G steps as graphs, so that autograd has nothing left to do.

`make_fx` records the operations of an eager step once (and sees through the penalty's double backward, which
torch.compile does not). The graphs are called as they are, or compiled by inductor into a few large kernels where
PyTorch has a thousand; a CUDA GPU gets either as CUDA graphs (accelerate/cuda_graphs.py). Networks with buffers or
noise of their own (batch norm, dropout) stay eager.
"""

import importlib.util
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from progan.data.cache import cache_folder
from progan.devices import is_out_of_memory
from progan.models import Draws
from progan.models.layers import wide
from progan.progress import duration
from progan.randomness import Rng
from progan.schedule import Phase, Stage
from progan.training.accelerate.cuda_graphs import CaptureError, Function, Part, captured, has_graphs
from progan.training.preflight.estimate import Pace
from progan.training.setup import RunSetup
from progan.training.state import TrainingState
from progan.training.step import Batch, Eager, Executor, Terms, d_loss, g_loss, total
from progan.training.step import Part as LossPart

_TRACING = threading.Lock()
"""One thread traces at a time: what records operations is the same for all."""


def missing(device: torch.device) -> str | None:
    """Name of what a compiled step would need and this machine lacks; None if nothing."""
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


class Executors:
    """Executors of a run's stages: compiled where the state's numerics say so, else traced, else eager.

    One is kept at a time. What cannot be compiled is traced, what cannot be traced is eager, in all processes alike.
    """

    def __init__(
        self,
        setup: RunSetup,
        state: TrainingState,
        pace: Pace | None = None,
        decide: Callable[[], None] | None = None,
    ) -> None:
        """`decide` is called before the first executor is made: it puts into the state what is compiled."""
        self._setup, self._state, self._decide = setup, state, decide
        self._pace = Pace(setup.schedule, {}, {}) if pace is None else pace
        self._graphs = setup.config.runtime.cuda_graphs and has_graphs(setup.device)
        self._key: tuple[int, Phase, int, bool] | None = None
        self._executor: Executor | None = None

    def of(self, stage: Stage) -> Executor:
        """Executor of a stage, made if it is not the one that was asked for last. Raises what says memory ran out."""
        if self._decide is not None:
            self._decide()
            self._decide = None
        size = stage.batch_size // self._setup.processes.size
        kernels = stage.resolution in self._state.numerics.compiled
        if self._executor is None or self._key != (*stage.key, size, kernels):
            # Before the next is made the last one goes, with the gradients, which lie in its memory.
            self._executor = None
            for network in (self._state.G, self._state.D):
                network.zero_grad()
            self._executor = self._make(stage, size, kernels)
            self._key = (*stage.key, size, stage.resolution in self._state.numerics.compiled)
        return self._executor

    def _make(self, stage: Stage, size: int, kernels: bool) -> Executor:
        state, setup = self._state, self._setup
        if not setup.config.model.traceable:
            return Eager(state.G, state.D, setup.loss, setup.augmentation)
        traced = self._try(stage, size, kernels)
        if not setup.processes.any(traced is None):
            assert traced is not None
            return traced
        del traced  # another process could not make it
        if kernels:  # that a resolution is not compiled becomes part of the state
            left = tuple(resolution for resolution in state.numerics.compiled if resolution != stage.resolution)
            state.numerics = replace(state.numerics, compiled=left)
            return self._make(stage, size, kernels=False)
        return Eager(state.G, state.D, setup.loss, setup.augmentation)

    def _try(self, stage: Stage, size: int, kernels: bool) -> "Traced | None":
        """Traced executor; None, after a line that says so, where it cannot be made."""
        log, name, start = self._setup.log, f"{stage.resolution}x{stage.resolution} {stage.phase}", time.perf_counter()
        if kernels:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder().parent / "compiled"))
            log(f"compiling {name}: about {duration(self._pace.build(stage.resolution))}, and seconds the next time")
        try:
            with _TRACING:
                traced = Traced(self._setup, self._state, stage, size, kernels, self._finish)
        except Exception as error:  # whatever the compiler trips over: training can do without it
            if is_out_of_memory(error):
                raise
            reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
            log(f"warning: {name} goes on {'uncompiled' if kernels else 'eager'} ({reason})")
            return None
        if kernels:
            self._pace.built(stage.key, seconds := time.perf_counter() - start)
            log(f"compiled {name} in {duration(seconds)}")
        return traced

    def _finish(self, parts: Sequence[Part]) -> Sequence[Function]:
        """CUDA graphs of the functions where the device has them, else the functions as they are."""
        if self._graphs:
            try:
                return captured(parts)
            except CaptureError as error:
                self._setup.log(f"warning: training goes on without CUDA graphs, perhaps slower ({error})")
                self._graphs = False
        return launched(parts)


def launched(parts: Sequence[Part]) -> Sequence[Function]:
    """Functions as they are, whose kernels are launched one by one."""
    return [function for function, _ in parts]


class Traced:
    """Executor of one stage and batch size. Without `kernels` it is traced, but not compiled.

    `finish` may replace its functions by others that compute the same.
    """

    def __init__(
        self,
        setup: RunSetup,
        state: TrainingState,
        stage: Stage,
        size: int,
        kernels: bool = True,
        finish: Callable[[Sequence[Part]], Sequence[Function]] = launched,
    ) -> None:
        self._G, self._D, self._loss, self._augmentation = state.G, state.D, setup.loss, setup.augmentation
        self._fades = stage.phase == "fade"
        # An example of every input decides shapes, dtypes and layouts of the graphs.
        device, dtype, r = setup.device, state.numerics.dtype, stage.resolution
        draws = Rng(0, 0, "init", device)
        reals = draws.uniform(size, setup.shape.channels * r * r).view(size, -1, r, r).to(wide(dtype))
        labels = torch.ones(size, state.G.label_size, device=device) if state.G.label_size else None
        p = None if self._augmentation is None else torch.full((), 0.5, device=device)
        batch = Batch(size, reals, labels, r, stage.alpha, dtype, p)
        scale = torch.ones((), device=device) if dtype == torch.float16 else None
        lazy = setup.config.optimizer.penalty_every > 1
        wanted: dict[str, tuple[Batch, Tensor | None]] = {"scores" if lazy else "whole": (batch, scale)}
        if lazy:
            wanted["penalty"] = batch, torch.ones((), device=device)
        wanted["g"] = batch._replace(reals=reals if setup.config.loss.wants_reals else None), scale
        # One function of tensors for every loss to be differentiated, all compiled before the first is captured.
        self._gradients, examples = {}, []
        for name, (example, factor) in wanted.items():
            network = self._G if name == "g" else self._D
            arguments = self._arguments(name, example, draws, factor)
            self._gradients[name] = _Gradients(self._function(name, example), network, arguments, kernels)
            examples.append(arguments)
        functions = [(each.call, arguments) for each, arguments in zip(self._gradients.values(), examples, strict=True)]
        for each, call in zip(self._gradients.values(), finish(functions), strict=True):
            each.call = call

    def d(self, batch: Batch, draws: Draws, scale: Tensor | None = None, part: LossPart = "whole") -> Terms:
        return self._gradients[part](*self._arguments(part, batch, draws, scale))

    def g(self, batch: Batch, draws: Draws, scale: Tensor | None = None) -> Terms:
        return self._gradients["g"](*self._arguments("g", batch, draws, scale))

    def _arguments(self, name: str, batch: Batch, draws: Draws, scale: Tensor | None) -> list[Any]:
        """Inputs of a graph: everything that changes from step to step, as tensors on the device.

        Alpha is a tensor while it changes, so that a fade is built once. Random numbers are drawn in the order in which
        `d_loss` and `g_loss` take them.
        """
        drawn = [draws.normal(batch.size, self._G.z_dim)]
        if self._augmentation is not None:
            augmented = 1 if batch.reals is None else 2  # fakes, and reals where there are any
            drawn += [draws.uniform(batch.size, self._augmentation.numbers) for _ in range(augmented)]
        if name != "g":
            drawn.append(draws.uniform(batch.size))
        reals = None if batch.reals is None else _contiguous(batch.reals)
        alpha = None
        if self._fades:
            alpha = torch.full((), float(batch.alpha), dtype=wide(batch.dtype), device=drawn[0].device)
        return [
            _detached(self._G.parameters()),
            _detached(self._D.parameters()),
            reals,
            batch.labels,
            alpha,
            drawn,
            scale,
            batch.p,
        ]

    def _function(self, name: str, example: Batch) -> Callable[..., tuple[Terms, Sequence[Tensor | None]]]:
        """Function of a graph's inputs that returns a loss's terms and the gradients of its network."""

        def gradients(
            g: list[Tensor],
            d: list[Tensor],
            reals: Tensor | None,
            labels: Tensor | None,
            alpha: Tensor | None,
            drawn: list[Tensor],
            scale: Tensor | None,
            p: Tensor | None,
        ) -> tuple[Terms, Sequence[Tensor | None]]:
            weights = [weight.detach().requires_grad_() for weight in (g if name == "g" else d)]
            G = _Bound(self._G, weights if name == "g" else g, self._G.z_dim, self._G.resolution)
            D = _Bound(self._D, d if name == "g" else weights)
            batch = example._replace(reals=reals, labels=labels, alpha=1.0 if alpha is None else alpha, p=p)
            draws = _Drawn(drawn)
            if name == "g":
                terms = g_loss(G, D, self._loss, batch, draws, self._augmentation)
            else:
                part: LossPart = name  # type: ignore[assignment]
                terms = d_loss(G, D, self._loss, batch, draws, part, self._augmentation)
            found = torch.autograd.grad(total(terms, scale), weights, allow_unused=True)
            return {key: term.detach() for key, term in terms.items()}, found

        return gradients


class _Bound:
    """Network as a function of other weights than its own."""

    def __init__(self, network: nn.Module, weights: Sequence[Tensor], z_dim: int = 0, resolution: int = 0) -> None:
        self._network, self.z_dim, self.resolution = network, z_dim, resolution
        self._weights = dict(zip((name for name, _ in network.named_parameters()), weights, strict=True))

    def __call__(self, *inputs: Any) -> Any:
        return functional_call(self._network, self._weights, inputs)


class _Drawn:
    """Random numbers of a step as inputs of a graph, in the order in which the step takes them."""

    def __init__(self, drawn: Sequence[Tensor]) -> None:
        self._drawn = iter(drawn)

    def normal(self, n: int, size: int) -> Tensor:
        return next(self._drawn)

    def uniform(self, n: int, size: int | None = None) -> Tensor:
        return next(self._drawn)


class _Gradients:
    """Graph that returns terms and gradients; the latter are put where the optimiser looks for them."""

    def __init__(self, function: Callable[..., Any], network: nn.Module, example: list[Any], kernels: bool) -> None:
        self._parameters = list(network.parameters())
        self._names: list[str] = []
        self._used: list[int] = []

        def flat(*arguments: Any) -> list[Tensor]:
            terms, gradients = function(*arguments)
            self._names = list(terms)
            self._used = [i for i, gradient in enumerate(gradients) if gradient is not None]
            return [*terms.values(), *(gradients[i] for i in self._used)]

        compiled = _compile(flat, example, kernels)
        shapes = [torch.empty_like(self._parameters[i], device="meta") for i in self._used]

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


def _compile(function: Function, example: list[Any], kernels: bool) -> Function:
    """Graph of a function, compiled if it is to have kernels of its own, for tensors like those of the example."""
    # Tracing on tensors without values takes half the time. Where real ones have other strides (as some gradients of
    # convolutions do on CPUs with AMX), a recorded view fails, and the graph is traced on real tensors instead.
    graph = _trace(function, example, "fake")
    try:
        torch.no_grad()(graph)(*example)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        graph = _trace(function, example, "real")
        torch.no_grad()(graph)(*example)
    if not kernels:
        traced: Function = torch.no_grad()(graph)
        return traced
    from torch._inductor import config  # slow to import

    # By default kernels for a GPU are chosen by their speed at the moment, sums in another order among them.
    options: dict[str, Any] = {"deterministic": True} if hasattr(config, "deterministic") else {}
    compiled: Function = torch.no_grad()(torch.compile(graph, dynamic=False, options=options))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TensorFloat32")  # advice to round where exact numbers were asked for
        compiled(*example)  # builds
    return compiled


def _trace(function: Function, example: list[Any], mode: Literal["fake", "real"]) -> Any:
    """Graph of a function, on tensors without values or on real ones."""
    graph = make_fx(lambda *arguments: function(*arguments), tracing_mode=mode)(*example)  # whose signature is open
    _once(graph, weights=len(example[0]) + len(example[1]))
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _once(graph: GraphModule, weights: int) -> None:
    """Do what depends on the weights alone, a graph's first inputs, once: a step goes through its layers many times."""
    fixed: set[Node] = set()
    known: dict[Any, Node] = {}
    changing = _written(graph)
    for node in list(graph.graph.nodes):
        key: Any = None
        if node.op == "placeholder" and weights > 0:
            weights -= 1
            if node not in changing:
                fixed.add(node)
        elif node.op == "get_attr":  # constants are recorded wherever they are met
            constant = getattr(graph, node.target)
            key = constant.dtype, constant.device, str(constant.tolist())
        elif node.op == "call_function" and node.all_input_nodes and fixed.issuperset(node.all_input_nodes):
            # What is made of nothing is memory for others to write to; what is written to is not shared either, and
            # what is drawn is drawn anew.
            if node in changing or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                continue
            key = node.target, str(node.args), str(node.kwargs)
        if key is not None:
            if (same := known.setdefault(key, node)) is node:
                fixed.add(node)
            else:
                node.replace_all_uses_with(same)
                graph.graph.erase_node(node)


def _written(graph: GraphModule) -> set[Node]:
    """What operations write to, by themselves or through a view, and what they return of it."""
    found: set[Node] = set()
    for node in reversed(graph.graph.nodes):  # a view comes after what it shows
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        if schema.is_mutable:
            found.add(node)
        if schema.is_mutable or (node in found and any(each.alias_info for each in schema.returns)):
            found.update(node.all_input_nodes)
    return found


def _contiguous(images: Tensor) -> Tensor:
    """Images with the strides of contiguous ones, also where grey images leave a choice: others would be recompiled."""
    return images.reshape(-1).view(images.shape)


def _like(gradient: Tensor, parameter: Tensor) -> Tensor:
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, device=gradient.device).copy_(gradient)


def _detached(tensors: Any) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors]
