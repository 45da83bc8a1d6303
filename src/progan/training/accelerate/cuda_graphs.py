"""CUDA graphs: a thousand kernels launched on the GPU at once, where Python would launch one after the other."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from progan.devices import is_out_of_memory

Function = Callable[..., list[Tensor]]
"""Function of tensors, None, and lists of them, outside autograd: always the same kernels for the same shapes."""

Part = tuple[Function, list[Any]]
"""Function and an example of its arguments."""


class CaptureError(Exception):
    """Raised where a function cannot be captured as a CUDA graph."""


def has_graphs(device: torch.device) -> bool:
    """True if a device can be given whole graphs of kernels."""
    return device.type == "cuda"


def captured(parts: Sequence[Part]) -> list["Captured"]:
    """CUDA graphs of functions. They share memory: call them in this order, though some may be left out.

    Each graph is compared with its function on the example and must give the same bits. Raises CaptureError, or what
    says that memory ran out.
    """
    try:
        # All run before the first capture: later, their memory would come on top of what the graphs keep.
        expected = [[result.clone() for result in function(*example)] for function, example in parts]
        pool = torch.cuda.graph_pool_handle()
        graphs = [Captured(function, example, pool) for function, example in parts]
        found = [graph(*example) for graph, (_, example) in zip(graphs, parts, strict=True)]
        same = all(_equal(a, b) for results in zip(found, expected, strict=True) for a, b in zip(*results, strict=True))
    except Exception as error:  # whatever cannot be captured: training can do without it
        if is_out_of_memory(error):
            raise
        raise CaptureError(": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])) from error
    if not same:
        raise CaptureError("its results differ from those of the function")
    return graphs


class Captured:
    """CUDA graph of a function.

    Arguments are read from the memory of the example's and copied there if they lie elsewhere; weights, which are
    updated in place, never are. Results are overwritten by the next call.
    """

    def __init__(self, function: Function, example: list[Any], pool: Any) -> None:
        self._inputs = _tensors(example)
        self._graph = torch.cuda.CUDAGraph()
        # The threads that read batches ahead may take memory meanwhile.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = function(*example)

    def __call__(self, *arguments: Any) -> list[Tensor]:
        for mine, given in zip(self._inputs, _tensors(arguments), strict=True):
            if mine.data_ptr() != given.data_ptr():
                mine.copy_(given)
        self._graph.replay()
        return self._outputs


def _tensors(arguments: Iterable[Any]) -> list[Tensor]:
    lists = (each if isinstance(each, (list, tuple)) else [each] for each in arguments)
    return [tensor for each in lists for tensor in each if tensor is not None]


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
