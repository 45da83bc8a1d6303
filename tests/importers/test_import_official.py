"""The authors' networks become snapshots that make the same images; nothing else becomes anything."""

import json
import math
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import progan
from official_pickles import SMALL, Network, changed, dump, hostile, networks, state, with_options
from progan import snapshot as snapshots
from progan.cli import main
from progan.errors import SnapshotError
from progan.importers import import_official, pickled
from progan.importers.official import configuration
from progan.importers.pickled import PickledNetwork, read_networks
from reference_networks import CONFIGS, IMAGES, SCORES, SHAPES, double, load, variables

GIVEN = load("network_pickle")


def imported(content: bytes, folder) -> snapshots.Snapshot:
    """Through the command and the file it writes."""
    (folder / "network.pkl").write_bytes(content)
    assert main(["import", str(folder / "network.pkl"), str(folder / "out.safetensors")]) == 0
    return progan.load(folder / "out.safetensors")


def upscaled(images: torch.Tensor, size: int) -> np.ndarray:
    factor = size // images.shape[2]
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3).numpy()


def written_out(name: str, slope: float) -> torch.Tensor:
    """Images of the authors' G_paper (their networks.py), unfused, in float64; slope 0 is `use_leakyrelu=False`."""
    arrays = load(f"generator_{name}")
    weights = variables(arrays, fused=False)

    def layer(x: torch.Tensor, name: str, gain: float = math.sqrt(2)) -> torch.Tensor:
        weight = double(weights[f"{name}/weight"])
        weight = weight * gain / math.sqrt(math.prod(weight.shape[:-1]))
        if weight.ndim == 2:
            x = (x @ weight).view(len(x), -1, 4, 4)
        else:
            x = F.conv2d(x, weight.permute(3, 2, 0, 1), padding=weight.shape[0] // 2)
        return x + double(weights[f"{name}/bias"]).view(1, -1, 1, 1)

    def norm(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def activation(x: torch.Tensor) -> torch.Tensor:
        return norm(torch.maximum(slope * x, x))

    x = double(arrays["latents"])
    x = norm(torch.cat([x, double(arrays["labels"])], 1) if arrays["labels"].size else x)
    x = activation(layer(x, "4x4/Dense", math.sqrt(2) / 4))
    x = activation(layer(x, "4x4/Conv"))
    while x.shape[2] < SHAPES[name]["resolution"]:
        size = 2 * x.shape[2]
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = activation(layer(x, f"{size}x{size}/Conv0"))
        x = activation(layer(x, f"{size}x{size}/Conv1"))
    return layer(x, "ToRGB_lod0", gain=1)


class TestImages:
    @pytest.mark.parametrize("name", ["a_r32", "b_r16_lab"])
    def test_with_relu(self, name, tmp_path):
        """As the authors' network written out, which makes their images where its ReLU is leaky."""
        arrays = load(f"generator_{name}")
        assert np.abs(written_out(name, 0.2).numpy() - arrays["unfused/images_out/lod0.0"]).max() < IMAGES
        made = imported(dump(networks(state(name, fused=False, use_leakyrelu=False))), tmp_path)
        labels = torch.from_numpy(arrays["labels"]) if arrays["labels"].size else None
        images, expected = made.generate(torch.from_numpy(arrays["latents"]), labels), written_out(name, 0)
        assert float((images - expected).abs().max()) < IMAGES
        assert float((images - written_out(name, 0.2)).abs().max()) > 0.01, "it makes a difference"

    def test_of_the_authors_file(self, tmp_path):
        made = imported(SMALL.read_bytes(), tmp_path)
        images = made.generate(torch.from_numpy(GIVEN["latents"])).numpy()
        assert np.abs(images - GIVEN["Gs_images"]).max() < IMAGES
        assert np.abs(images - GIVEN["G_images"]).max() > 0.1, "the averaged network is the third one"
        pixels = progan.to_pixels(torch.from_numpy(images)).numpy().astype(int)
        assert np.abs(pixels - GIVEN["Gs_images_uint8"]).max() <= 1

    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("lod", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("name", ["a_r32", "b_r16_lab"])
    def test_of_both_layouts_with_labels_and_while_growing(self, name, lod, fused, tmp_path):
        arrays = load(f"generator_{name}")
        made = imported(dump(networks(state(name, fused, lod))), tmp_path)
        labels = torch.from_numpy(arrays["labels"]) if arrays["labels"].size else None
        images = made.generate(torch.from_numpy(arrays["latents"]), labels)
        assert made.resolution == made.info.shape.resolution >> int(lod)
        expected = arrays[f"{'fused' if fused else 'unfused'}/images_out/lod{lod}"]
        assert np.abs(upscaled(images, made.info.shape.resolution) - expected).max() < IMAGES

    @pytest.mark.parametrize("protocol", [3, 4, 5])
    def test_of_every_protocol(self, protocol, tmp_path):
        content = dump(networks(state()), protocol)
        assert (b"_frombuffer" in content) == (protocol == 5)
        arrays = load("generator_b_r16_lab")
        images = imported(content, tmp_path).generate(
            torch.from_numpy(arrays["latents"]), torch.from_numpy(arrays["labels"])
        )
        assert np.abs(images.numpy() - arrays["fused/images_out/lod0.0"]).max() < IMAGES

    def test_arrays_in_fortran_order(self, tmp_path):
        own = state()
        own["variables"] = [(name, np.asfortranarray(x) if np.ndim(x) else x) for name, x in own["variables"]]
        made, expected = imported(dump(networks(own)), tmp_path), imported(dump(networks(state())), tmp_path)
        assert all(torch.equal(made.G.state_dict()[name], x) for name, x in expected.G.state_dict().items())


class TestWhatASnapshotSays:
    def test_licence_and_labels(self, tmp_path, capsys):
        made = imported(dump(networks(state())), tmp_path)
        assert made.info.licence == "CC BY-NC 4.0"
        assert "Licence: CC BY-NC 4.0" in capsys.readouterr().out
        assert made.info.label_names == tuple("0123456789")
        assert torch.equal(made.labels(["3"]), torch.eye(10)[[3]])
        out = tmp_path / "mine.safetensors"
        assert main(["import", str(tmp_path / "network.pkl"), str(out), "--licence", "MIT", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "out": str(out), "resolution": 16, "channels": 1, "labels": 10, "licence": "MIT", "networks": ["Gs"],
        }  # fmt: skip
        assert progan.load(out).info.licence == "MIT"

    def test_it_is_sampled_truncated_and_reduced_as_our_own(self, tmp_path):
        made = imported(SMALL.read_bytes(), tmp_path)
        source, out = str(tmp_path / "out.safetensors"), str(tmp_path / "grid.png")
        assert main(["sample", source, "--num", "4", "--truncation", "0.5", "--resolution", "16", "--out", out]) == 0
        z = made.latents(range(4))
        torch.testing.assert_close(made.mean, made.G.embed(made.latents(range(10_000))).mean(0), rtol=1e-4, atol=1e-5)
        assert made.generate(z, truncation=0.0).std(0).max() == 0

    def test_options_left_out_have_the_authors_defaults(self):
        network = PickledNetwork("G_paper", {"num_channels": 3, "resolution": 1024, "label_size": 0}, {})
        model, shape = configuration(network, fused=False)
        assert (model.fmap_base, model.fmap_max, model.z_dim) == (8192, 512, 512)
        assert (model.use_wscale, model.pixel_norm, model.normalize_latents) == (True, "g", True)
        assert (shape.resolution, shape.channels, shape.label_size) == (1024, 3, 0)
        network = PickledNetwork("G_paper", {"fmap_base": 256, "use_pixelnorm": False, "normalize_latents": False}, {})
        model, shape = configuration(network, fused=True)
        assert (model.z_dim, model.pixel_norm, model.normalize_latents) == (256, "none", False)
        assert (shape.resolution, shape.channels) == (32, 1)

    def test_the_latents_have_the_length_of_the_smaller_of_base_and_maximum(self, tmp_path):
        own = state()
        del own["static_kwargs"]["latent_size"]  # 32, the same as min(128, 32)
        assert imported(dump(networks(own)), tmp_path).z_dim == CONFIGS["b_r16_lab"].z_dim

    def test_options_of_the_discriminator_are_overlooked(self, tmp_path):
        assert imported(with_options(mbstd_group_size=16, structure="linear", anything=None), tmp_path).z_dim == 32


def test_all_three_networks_are_read():
    G, D, averaged = read_networks(SMALL)
    assert (G.function, D.function, averaged.function) == ("G_paper", "D_paper", "G_paper")
    np.testing.assert_array_equal(averaged.variables["4x4/Conv/bias"], GIVEN["Gs/var/4x4/Conv/bias"])
    for name, x in load("discriminator_a_r32").items():
        if name.startswith("fused/var/"):
            np.testing.assert_array_equal(D.variables[name.removeprefix("fused/var/")], x)


def test_the_source_code_inside_is_not_run(tmp_path):
    marker = tmp_path / "marker"
    made = imported(changed(build_module_src=f"open({str(marker)!r}, 'w')\ndef G_paper(**kwargs): pass"), tmp_path)
    assert made.resolution == 16
    assert not marker.exists()


class TestTheOtherNetworks:
    """The trained generator and D, for training on."""

    def test_of_the_authors_file(self, tmp_path):
        made = imported(SMALL.read_bytes(), tmp_path)
        images = made.raw(torch.from_numpy(GIVEN["latents"]))
        assert np.abs(images.numpy() - GIVEN["G_images"]).max() < IMAGES
        arrays = load("discriminator_a_r32")
        images = torch.from_numpy(arrays["images"])
        assert np.abs(made.D(images).value.numpy() - arrays["fused/scores_out/lod0.0"].ravel()).max() < SCORES

    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("name", ["a_r32", "b_r16_lab"])
    def test_scores_in_both_layouts_and_with_labels(self, name, fused, tmp_path):
        arrays = load(f"discriminator_{name}")
        own = variables(arrays, fused)
        pairs = [(key, np.ascontiguousarray(x)) for key, x in own.items()]
        critic = {**state(name), "build_func_name": "D_paper", "variables": pairs}
        content = dump((Network(state(name, fused)), Network(critic), Network(state(name, fused))))
        made = imported(content, tmp_path)
        scores, prefix = made.D(torch.from_numpy(arrays["images"])), "fused" if fused else "unfused"
        assert np.abs(scores.value.numpy() - arrays[f"{prefix}/scores_out/lod0.0"].ravel()).max() < SCORES
        labels = arrays.get(f"{prefix}/labels_out/lod0.0")
        assert labels is None or np.abs(scores.logits.numpy() - labels).max() < SCORES

    @pytest.mark.parametrize(
        ("trained", "critic", "notes"),
        [
            ({}, {"build_func_name": "D_other"}, ["without its discriminator: it was built by 'D_other'"]),
            ({}, {"static_kwargs": {}}, ["without its discriminator: its options are not those of the generator"]),
            ({}, {"variables": []}, ["without its discriminator: it lacks what would be"]),
            ({"variables": []}, {}, ["without the trained generator, only its average: it lacks what would be"]),
            ({"static_kwargs": {}}, {}, ["without the trained generator, only its average: its options are not"]),
        ],
    )
    def test_one_that_does_not_fit_is_left_out_and_said(self, trained, critic, notes, tmp_path):
        own = state("a_r32")
        pairs = [(key, np.ascontiguousarray(x)) for key, x in variables(load("discriminator_a_r32"), True).items()]
        D = {**own, "build_func_name": "D_paper", "variables": pairs, **critic}
        (tmp_path / "network.pkl").write_bytes(dump((Network({**own, **trained}), Network(D), Network(own))))
        said = []
        made = import_official(tmp_path / "network.pkl", log=said.append)
        assert [line.startswith(f"note: {note}") for line, note in zip(said, notes, strict=True)] == [True]
        assert (made.raw is None, made.D is None) == (bool(trained), bool(critic))


MARKER = Path(tempfile.mkdtemp()) / "code-that-ran"
FILES = hostile(MARKER)


def test_there_are_many_hostile_files():
    assert len(FILES) >= 50
    assert len(set(FILES.values())) == len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_gets_one_line_and_runs_nothing(name, tmp_path, capsys):
    (tmp_path / "network.pkl").write_bytes(FILES[name])
    assert main(["import", str(tmp_path / "network.pkl"), str(tmp_path / "out.safetensors")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert len(captured.err) < 300 + len(str(tmp_path))
    assert "damaged (Attribute" not in captured.err, "an accident, not a check"
    assert not MARKER.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "no pickle"),
        ("behind its end", "behind its end"),
        ("os.system", "asks for 'os' 'system', which no network needs"),
        ("dotted name", "asks for 'tfutil' 'Network.__init__.__globals__'"),
        ("inst", "uses STRING"),
        ("extension", "uses EXT1"),
        ("memo of 2^31", "longer than any such file"),
        ("a million instructions", "longer than any such file"),
        ("function changed", "changes a function"),
        ("array in ndarray", "makes arrays in an unusual way"),
        ("object array", "no 32-bit floats"),
        ("scalar of five bytes", "do not fill its shape"),
        ("array never filled", "variables is no list"),
        ("fmap_decay", "fmap_decay other than 1.0 is not supported"),
    ],
)
def test_every_check_speaks_for_itself(name, message, tmp_path):
    (tmp_path / "network.pkl").write_bytes(FILES[name])
    with pytest.raises(SnapshotError, match=message):
        import_official(tmp_path / "network.pkl")


def test_the_hostile_files_would_run_code_elsewhere(tmp_path):
    """Else the test above would prove nothing."""
    marker = tmp_path / "marker"
    for name in ("os.system", "eval", "exec", "old global", "inst"):
        pickle.loads(hostile(marker)[name])
        assert marker.exists(), name
        marker.unlink()


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "network.pkl"
    with path.open("wb") as file:
        os.truncate(file.fileno(), pickled.MAX_BYTES + 1)  # takes no room
    with pytest.raises(SnapshotError, match=r"2\.0 GB, more than any such file"):
        import_official(path)


def test_theano_files_are_told_what_to_do(tmp_path):
    for name in ("theano", "theano, newer"):
        (tmp_path / "network.pkl").write_bytes(FILES[name])
        with pytest.raises(SnapshotError, match="older Theano code"):
            import_official(tmp_path / "network.pkl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.pkl", "out.safetensors"], "nowhere.pkl does not exist"),
        (["nowhere.pkl"], "nowhere.pkl does not exist"),
        ([str(SMALL)], "name the snapshot to write"),
        ([".", "out.safetensors"], "cannot be read"),
        ([str(SMALL), "out.pkl"], "must end in .safetensors"),
        ([str(SMALL), "/dev/null/out.safetensors"], "cannot be written"),
    ],
)
def test_mistakes(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["import", *arguments]) == 2
    assert message in capsys.readouterr().err
