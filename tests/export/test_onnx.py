"""ONNX graphs and plain modules make the pictures of `progan sample`, for every kind of generator and any batch."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from generators import ATTRIBUTES, SMALL, small, write_run
from progan.cli import main
from progan.commands import OnnxConfig
from progan.config import DcganConfig, GrowingBatchNormConfig, ModelConfig, ProGANConfig
from progan.errors import ExportError
from progan.export import onnx as exporter
from progan.export.source import open_source
from progan.images import to_pixels
from progan.models.layers import Scaled, UpscaleConv2d
from progan.models.strided import StridedConv2d

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

DIGITS = ("one", "two", "three")
KINDS = {
    "progan": {},
    "classes": {"kind": "class", "names": DIGITS},
    "attributes": {"kind": "attributes", "names": ATTRIBUTES},
    "grey, in a fade": {"channels": 1, "alpha": 0.3},
    "below the final resolution": {"resolution": 8},
    "fused, no wscale": {"model": ProGANConfig(fmap_base=64, fmap_max=16, z_dim=8, fused_scale=True, use_wscale=False)},
    "batch norm, tanh, relu, uniform": {
        "model": ProGANConfig(
            fmap_base=64, fmap_max=16, z_dim=8, latents="uniform", tanh=True, batch_norm=0.1, pixel_norm="none",
            normalize_latents=False, g_activation="relu",
        )
    },
    "dcgan": {"model": DcganConfig(z_dim=8, width=8), "kind": "class", "names": DIGITS},
    "growing batch norm": {"model": GrowingBatchNormConfig(z_dim=8, fmap_base=64, fmap_max=16), "alpha": 0.6},
}  # fmt: skip


QUICK = ("attributes", "grey, in a fade")
"""Kinds whose graphs the fast tests make: tracing takes seconds."""


@functools.cache
def generator(kind):
    return small(**KINDS[kind])


@pytest.fixture(autouse=True)
def traced_once(monkeypatch):
    """The graph of a snapshot object is traced once for all tests, and copied."""
    original = exporter._trace

    def trace(snapshot):
        if id(snapshot) not in TRACED:
            TRACED[id(snapshot)] = snapshot, original(snapshot)
        copied = onnx.ModelProto()
        copied.CopyFrom(TRACED[id(snapshot)][1])
        return copied

    monkeypatch.setattr(exporter, "_trace", trace)


TRACED = {}


def inputs(snapshot, seeds):
    names = {"class": DIGITS[:2], "attributes": ["hat=cap", ""]}.get(snapshot.info.label_kind)
    return snapshot.latents(seeds), None if names is None else snapshot.labels([*names, *names][: len(seeds)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_module_makes_the_same_pictures(kind):
    """Also where it is traced with another number of them, and without any operation that only Python knows."""
    snapshot = generator(kind)
    before = {name: value.clone() for name, value in snapshot.G.state_dict().items()}
    z, labels = inputs(snapshot, range(3))
    wanted = snapshot.generate(z, labels, 0.7)
    module = snapshot.module()
    assert not [m for m in module.modules() if isinstance(m, UpscaleConv2d | StridedConv2d)]
    assert all(m.scale == 1 for m in module.modules() if isinstance(m, Scaled))
    assert (module.images(z, labels, 0.7) - wanted).abs().max() < 1e-5
    pixels = module(z, labels)
    assert pixels.dtype == torch.uint8
    given = (z,) if labels is None else (z, labels)
    traced = torch.jit.trace(module, tuple(each[:2] for each in given))
    assert "PythonOp" not in str(traced.graph)
    assert torch.equal(traced(*given), pixels)
    number = torch.export.Dim("n", min=1, max=64)
    shapes = ({0: number},) * len(given)
    exported = torch.export.export(module, tuple(each[:2] for each in given), dynamic_shapes=shapes)
    assert torch.equal(exported.module()(*given), pixels)
    assert all(torch.equal(before[name], value) for name, value in snapshot.G.state_dict().items())


@pytest.mark.parametrize("weights", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in KINDS]
)
def test_a_graph_makes_the_pictures_of_sample(kind, weights):
    snapshot = generator(kind)
    graph = exporter.make(snapshot, weights)
    session = onnxruntime.InferenceSession(graph.content, providers=["CPUExecutionProvider"])
    for seeds, truncation in ((range(4, 7), 0.5), (range(1), 1.0)):
        z, labels = inputs(snapshot, seeds)
        given = {"z": z.numpy(), "truncation": np.array(truncation, np.float32)}
        given |= {} if labels is None else {"labels": labels.numpy()}
        images = torch.from_numpy(session.run(["images"], given)[0])
        wanted = snapshot.generate(z, labels, truncation)
        assert images.shape == wanted.shape
        steps = (to_pixels(images).int() - to_pixels(wanted).int()).abs().max()
        assert steps <= (1 if weights == "fp32" else 2)
        if weights == "fp32":
            assert (images - wanted).abs().max() <= 1e-4 * max(1, float(wanted.abs().max()))


def test_weights_are_baked_and_halved():
    """No scale and no kernel is computed at run time; fp16 halves the file, and arithmetic stays fp32."""
    snapshot = small(ProGANConfig(fmap_base=512, fmap_max=64, z_dim=64))
    whole, half = (exporter.make(snapshot, weights).content for weights in ("fp32", "fp16"))
    model = onnx.load_from_string(whole)
    nodes = [node.op_type for node in model.graph.node]
    assert nodes.count("ConvTranspose") == 2
    assert not {"Slice", "Pad", "Resize", "Cast", "Transpose"} & set(nodes)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value) == ("N", 64)
    assert len(half) < 0.6 * len(whole)
    kinds = {t.data_type for t in onnx.load_from_string(half).graph.initializer if len(t.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_a_graph_says_what_it_is_and_nothing_of_this_machine():
    snapshot = generator("attributes")
    graph = exporter.make(snapshot, metrics={"swd": 1.5})
    facts = {entry.key: entry.value for entry in onnx.load_from_string(graph.content).metadata_props}
    assert (facts["resolution"], facts["z_dim"], facts["kimg"], facts["data"]) == ("16", "14", "16", "drawn <things>")
    assert json.loads(facts["labels"]) == {"kind": "attributes", "names": list(ATTRIBUTES)}
    assert json.loads(facts["metrics"]) == {"swd": 1.5}
    assert b".py" not in graph.content
    assert exporter.make(snapshot, metrics={"swd": 1.5}).content == graph.content


def test_a_graph_that_makes_other_pictures_is_refused(monkeypatch):
    """NaN is no small difference either."""
    snapshot = generator("attributes")
    original = exporter._trace

    def with_bias(value):
        def trace(snapshot):
            model = original(snapshot)
            bias = next(
                t for t in model.graph.initializer if t.name == model.graph.node[-1].input[2]
            )  # of the last layer
            bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, value, np.float32), bias.name))
            return model

        return trace

    for value in (0.02, float("nan")):
        monkeypatch.setattr(exporter, "_trace", with_bias(value))
        for weights in ("fp32", "fp16"):
            with pytest.raises(ExportError, match=r"16x16 does not make PyTorch's pictures"):
                exporter.make(snapshot, weights)


@pytest.mark.slow
def test_every_resolution_of_a_run_is_its_own_snapshot(tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    assert main(["export", "onnx", str(folder.path), str(tmp_path / "out"), "--weights", "fp16", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["resolutions"] == [8, 16]
    assert facts["config"]["weights"] == "fp16"
    digests = set()
    for resolution in (8, 16):
        model = onnx.load(tmp_path / "out" / f"generator-{resolution}x{resolution}.onnx")
        digests.add(next(entry.value for entry in model.metadata_props if entry.key == "snapshot"))
    source = open_source(folder.path, OnnxConfig())
    assert digests == {snapshot.digest for snapshot in source.snapshots.values()}
    # In the same folder nothing of the first stays, which is published with all that is in it.
    assert main(["export", "onnx", str(folder.path), str(tmp_path / "out"), "--resolutions", "8"]) == 0
    names = {path.name for path in (tmp_path / "out").glob("generator-*")}
    assert names == {"generator-8x8.onnx", "generator-8x8.safetensors"}


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"onnxruntime is missing.*pip install '\.\[export\]'"):
        exporter.make(small())


def test_the_models_of_the_table_are_all():
    assert {type(kind.get("model", SMALL)) for kind in KINDS.values()} == set(ModelConfig.__args__)
    assert isinstance(small().module(), nn.Module)


def test_nothing_is_reported_by_the_runtime(tmp_path):
    """It keeps what it will send, and a number of the machine, in the cache folder of the user."""
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI"):
        environment.pop(name, None)
    subprocess.run(
        [sys.executable, "-c", "from progan.export.onnx import require; require()"], env=environment, check=True
    )
    assert not list(tmp_path.rglob("*onnxruntime*"))
