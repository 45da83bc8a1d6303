"""ONNX graphs: a file for each resolution, compared with PyTorch before it is written."""

import contextlib
import importlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import progan
from progan.commands import OnnxConfig
from progan.errors import ExportError
from progan.export.card import remove_earlier, write_card
from progan.export.source import Source
from progan.files import write_whole
from progan.images import to_pixels
from progan.progress import Log
from progan.sampling.pictures import default_labels
from progan.snapshot import PlainGenerator, Snapshot

if TYPE_CHECKING:
    import onnx

Weights = Literal["fp32", "fp16"]
_CLOSE = 1e-4
"""Largest difference of images between PyTorch and onnxruntime in fp32, of the largest value if that is above 1."""
_STEPS = {"fp32": 1, "fp16": 2}
"""Largest difference of a pixel, in steps of 1/255."""
_TRIALS = ((range(2), 1.0), (range(2, 3), 0.7))
"""Seeds and truncations that are compared, in batches of two sizes."""


@dataclass(frozen=True)
class Graph:
    """A graph, and how far its pictures are from PyTorch's."""

    content: bytes
    difference: float
    """Largest, of images."""
    steps: int
    """Largest, of pixels, in steps of 1/255."""


def export(source: Source, out: Path, config: OnnxConfig, log: Log) -> list[Path]:
    """Write `generator-32x32.onnx` … and the card into a folder that exists."""
    require()
    files = write_card(source, out, "onnx")
    for resolution, snapshot in source.snapshots.items():
        graph = make(snapshot, config.weights, source.metrics.get(resolution))
        files.append(out / f"generator-{resolution}x{resolution}.onnx")
        write_whole(files[-1], graph.content)
        log(
            f"{files[-1]}: {len(graph.content) / 1e6:.1f} MB; compared with PyTorch: images differ by up to "
            f"{graph.difference:.1g}, pixels by up to {graph.steps}/255"
        )
    remove_earlier(out, files)
    return files


def make(snapshot: Snapshot, weights: Weights = "fp32", metrics: Any = None) -> Graph:
    """The graph of a snapshot. Raises ExportError if its pictures are not PyTorch's, or onnx is not installed.

    Inputs `z` float32 [N, z_dim], where there are labels `labels` float32 [N, L], and `truncation` float32 []. Output
    `images` float32 [N, C, R, R] about -1…1, not clipped.
    """
    require()
    import onnx
    import onnxruntime

    model = _trace(snapshot)
    _clean(model)
    for key, value in _metadata(snapshot, metrics or {}).items():
        model.metadata_props.add(key=key, value=value)
    if weights == "fp16":
        _halve(model)
    content = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(content)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level, quiet.intra_op_num_threads = 3, torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
    return _compared(content, snapshot, session, weights)


def require() -> None:
    """Raises ExportError, with what to do, where a package that exports need is not installed."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on onnxruntime reports what it runs otherwise
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ExportError(f"{name} is missing, which exports need: pip install '.[export]'") from None


class _Images(nn.Module):
    """Images of a generator, by the names of the graph's inputs."""

    def __init__(self, generator: PlainGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, labels: Tensor | None, truncation: Tensor) -> Tensor:
        return self.generator.images(z, labels, truncation)


def _trace(snapshot: Snapshot) -> "onnx.ModelProto":
    """The graph as torch makes it, for any number of latents."""
    z, labels = _inputs(snapshot, range(2))
    number = torch.export.Dim("n", min=1, max=2**20)
    any_number = {0: number}
    with _silence():
        program = torch.onnx.export(
            _Images(snapshot.module()).eval(),
            (z, labels, torch.tensor(0.7)),
            dynamo=True,
            input_names=["z", *([] if labels is None else ["labels"]), "truncation"],
            output_names=["images"],
            dynamic_shapes=(any_number, None if labels is None else any_number, None),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _inputs(snapshot: Snapshot, seeds: range) -> tuple[Tensor, Tensor | None]:
    """Latents of seeds, and labels in turn where there are any."""
    names = default_labels(snapshot, seeds.stop)
    return snapshot.latents(seeds), snapshot.labels(names)[seeds.start :] if names else None


def _clean(model: "onnx.ModelProto") -> None:
    """Remove what tells of this machine: every node has the files and lines it was made by. Name the batch `N`."""
    del model.graph.value_info[:]  # shapes of what lies between, which every runtime finds itself
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "N"
    model.doc_string = ""
    for owner in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.functions):
        del owner.metadata_props[:]
        owner.doc_string = ""


def _halve(model: "onnx.ModelProto") -> None:
    """Store weights as 16-bit floats, widened when a session begins; biases, and what is as small, stay."""
    from onnx import TensorProto, helper, numpy_helper

    kept, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            name = f"{tensor.name}.fp16"
            kept.append(numpy_helper.from_array(values.astype(np.float16), name))
            casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        else:
            kept.append(tensor)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)


def _metadata(snapshot: Snapshot, metrics: Any) -> dict[str, str]:
    """What a graph says of itself."""
    info = snapshot.info
    labels = {"kind": info.label_kind, "names": info.label_names}
    facts = {
        "format": "progan generator",
        "progan": progan.__version__,
        "snapshot": snapshot.digest,
        "resolution": str(snapshot.resolution),
        "z_dim": str(snapshot.z_dim),
        "data": info.dataset,
        "kimg": f"{info.cur_nimg / 1000:g}",
        "licence": info.licence,
        "latents": "N(0, 1); those of a seed: Philox4x32-10 and Box-Muller (docs/using.md)",
        "pixels": "round((images + 1) * 127.5), clipped to 0...255",
        "metrics": json.dumps(metrics),
    }
    return facts | ({"labels": json.dumps(labels)} if info.label_kind else {})


def _compared(content: bytes, snapshot: Snapshot, session: Any, weights: Weights) -> Graph:
    """The graph with what was found. Raises ExportError where its pictures are not those of `progan sample`."""
    difference, relative, steps = 0.0, 0.0, 0
    for seeds, truncation in _TRIALS:
        z, labels = _inputs(snapshot, seeds)
        given = {"z": z.cpu().numpy(), "truncation": np.array(truncation, np.float32)}
        if labels is not None:
            given["labels"] = labels.cpu().numpy()
        got: npt.NDArray[np.float32] = session.run(["images"], given)[0]
        wanted = snapshot.generate(z, labels, truncation).cpu()
        apart = float(np.abs(got - wanted.numpy()).max())
        a, b = to_pixels(torch.from_numpy(got)).int(), to_pixels(wanted).int()
        steps = max(steps, int((a - b).abs().max()))
        difference = max(difference, apart)
        relative = max(relative, apart / max(1.0, float(wanted.abs().max())))
    # `not <=`, so that NaN is refused as well.
    if steps > _STEPS[weights] or (weights == "fp32" and not relative <= _CLOSE) or not np.isfinite(difference):
        size = f"{snapshot.resolution}x{snapshot.resolution}"
        advice = "use --weights fp32" if weights == "fp16" else "report it, with the snapshot"
        raise ExportError(
            f"the graph of {size} does not make PyTorch's pictures: images differ by {difference:.1g}, pixels by "
            f"{steps}/255. It was not written; {advice}"
        )
    return Graph(content, difference, steps)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what torch's exporter tells its developers off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
