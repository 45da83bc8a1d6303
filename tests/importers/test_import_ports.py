"""Checkpoints of two ports become snapshots that make the same images; what is hostile or unknown gets one line."""

import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import progan
from official_pickles import call, numpy_call, text
from port_networks import (
    aka_images,
    aka_networks,
    aka_scores,
    save_aka,
    save_zoo,
    zoo_images,
    zoo_networks,
    zoo_scores,
    zoo_settings,
)
from progan.cli import main
from progan.errors import SnapshotError
from progan.importers import import_network, torch_file

TOLERANCE = 5e-5
GIVEN = Path(__file__).parents[1] / "reference" / "ports"
"""Files that the ports' own code wrote, with the images that it makes of them."""
ZOO = {
    "colour": ([8, 6, 4], {}),
    "grey, fading": ([6, 4], {"dimOutput": 1, "alpha": 0.3}),
    "fading into 32x32": ([8, 8, 6, 4], {"alpha": 0.75}),
    "4x4": ([5], {"alpha": 0.5}),
    "wider above": ([4, 8, 8], {}),
    "no equalised learning rate": ([8, 6, 4], {"equalizedlR": False}),
    "no pixel norm": ([8, 6], {"perChannelNormalization": False}),
    "no minibatch deviation": ([8, 6], {"miniBatchStdDev": False}),
    "another slope": ([8, 6], {"leakyReluLeak": 0.05}),
    "ReLU": ([8, 6], {"leakyReluLeak": 0.0}),
    "tanh": ([8, 6], {"lossCriterion": "MSE"}),
    "tanh while fading": ([8, 6], {"lossCriterion": "MSE", "alpha": 0.4}),
    "logistic": ([8, 6], {"lossCriterion": "Logistic"}),
    "classes": ([8, 6, 4], {"categoryVectorDim": 3}),
}


def made(path: Path, tmp_path: Path, *options: str) -> progan.Snapshot:
    """Through the command and the file it writes."""
    assert main(["import", str(path), str(tmp_path / "out.safetensors"), *options]) == 0
    return progan.load(tmp_path / "out.safetensors")


def latents(z_dim: int, n: int = 5) -> torch.Tensor:
    return torch.randn(n, z_dim, generator=torch.Generator().manual_seed(1))


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def in_step(n: int) -> torch.Tensor:
    """Order in which the images of their consecutive groups of 4 are every n/4-th one, as in ours."""
    return torch.arange(n).view(4, n // 4).T.flatten()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ZOO)
def test_networks_of_pytorch_gan_zoo(name, zipped, tmp_path):
    maps, changes = ZOO[name]
    settings = zoo_settings(maps, **changes)
    (average, D), (trained, _) = zoo_networks(settings), zoo_networks(settings, seed=1)
    save_zoo(tmp_path / "net.pth", settings, zipped, netG=trained, netD=D, avgG=average)
    snapshot = made(tmp_path / "net.pth", tmp_path)

    z, classes = latents(8), settings["categoryVectorDim"]
    labels = torch.eye(classes)[torch.arange(5) % classes] if classes else None
    theirs = z if labels is None else torch.cat([z, labels], 1)
    images = snapshot.generate(z, labels)
    assert snapshot.resolution == 2 ** (len(maps) + 1)
    assert error(images, zoo_images(settings, average, theirs)) < TOLERANCE
    assert error(snapshot.raw(z, labels, None, snapshot.info.alpha), zoo_images(settings, trained, theirs)) < TOLERANCE
    assert error(images, zoo_images(settings, trained, theirs)) > 0.01, "the average is another network"

    # Ours compares every n/4-th image where theirs compares four in a row.
    reals = torch.rand(8, settings["dimOutput"], *images.shape[2:], generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = zoo_scores(settings, D, reals[in_step(8)])
    scores = snapshot.D(reals, 1.0 if len(maps) == 2 else snapshot.info.alpha)
    assert error(scores.value[in_step(8)], expected[:, -1]) < TOLERANCE
    if classes:
        assert error(scores.logits[in_step(8)], expected[:, :-1]) < TOLERANCE


AKA = {
    "as wide everywhere": ([8, 8, 8], 8, {}),
    "other latents": ([8, 8, 4], 12, {}),
    "fewer latents, grey": ([8, 6, 4], 5, {"colours": 1}),
    "no equalised learning rate": ([8, 8], 8, {"eql": False}),
    "4x4": ([6], 6, {}),
}


@pytest.mark.parametrize("name", AKA)
def test_networks_of_pro_gan_pytorch(name, tmp_path):
    maps, z_dim, options = AKA[name]
    (average, D), (trained, _) = aka_networks(maps, z_dim, **options), aka_networks(maps, z_dim, **options, seed=1)
    save_aka(tmp_path / "net.bin", z_dim, **options, generator=trained, discriminator=D, shadow_generator=average)
    eql, top, z = options.get("eql", True), len(maps) + 1, latents(z_dim, 8)
    for depth in range(2, top + 1):
        snapshot = made(tmp_path / "net.bin", tmp_path, "--resolution", str(2**depth))
        images = snapshot.generate(z)
        assert snapshot.resolution == 2**depth
        assert error(images, aka_images(average, z, depth, eql=eql)) < TOLERANCE
        assert error(snapshot.raw(z, resolution=2**depth), aka_images(trained, z, depth, eql=eql)) < TOLERANCE
        assert error(snapshot.D(images).value, aka_scores(D, images, top, depth, eql=eql)) < TOLERANCE
        if depth > 2:
            assert error(snapshot.G(z, None, 2**depth, 0.3), aka_images(average, z, depth, 0.3, eql)) < TOLERANCE
            assert error(snapshot.D(images, 0.3).value, aka_scores(D, images, top, depth, 0.3, eql)) < TOLERANCE
    assert made(tmp_path / "net.bin", tmp_path).resolution == 2**top


@pytest.mark.parametrize(
    ("file", "images"), [("zoo_rgb16.pth", "avgG"), ("zoo_grey8_fade.pth", "avgG"), ("aka_rgb16.bin", "shadow")]
)
def test_files_that_the_ports_wrote(file, images, tmp_path):
    """Also those written out here, against which all else is held."""
    arrays = {key: torch.from_numpy(x) for key, x in np.load((GIVEN / file).with_suffix(".npz")).items()}
    snapshot, z = made(GIVEN / file, tmp_path), arrays["latents"]
    if images == "shadow":
        for depth in (2, 3, 4):
            assert error(snapshot.G(z, None, 2**depth), arrays[f"shadow_images_depth{depth}"]) < TOLERANCE
        assert error(snapshot.G(z, None, 16, 0.3), arrays["shadow_images_depth4_alpha03"]) < TOLERANCE
        own = arrays["shadow_images_depth4"][:4]
        assert error(snapshot.D(own).value, arrays["D_of_shadow_images"]) < TOLERANCE
        return
    assert error(snapshot.generate(z), arrays["avgG_images"]) < TOLERANCE
    assert error(snapshot.raw(z, None, None, snapshot.info.alpha), arrays["G_images"]) < TOLERANCE
    content = torch_file.read(GIVEN / file)
    settings = content["config"].values
    assert error(zoo_images(settings, content["avgG"], z).float(), arrays["avgG_images"]) < TOLERANCE
    scores = zoo_scores(settings, content["netD"], arrays["avgG_images"])
    assert error(scores.float(), arrays["D_of_avgG_images"]) < TOLERANCE


class TestOtherFiles:
    """Of one network: the smallest of each port."""

    settings = zoo_settings([4, 4])

    def test_numbers_of_16_and_64_bits_and_any_layout(self, tmp_path):
        G, _ = zoo_networks(self.settings)
        z = latents(8)
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            own = {name: x.to(dtype) for name, x in G.items()}
            own["groupScale0.0.module.weight"] = own["groupScale0.0.module.weight"].to(
                memory_format=torch.channels_last
            )
            save_zoo(tmp_path / "net.pth", self.settings, avgG=own)
            expected = zoo_images(self.settings, {name: x.float() for name, x in own.items()}, z)
            assert error(made(tmp_path / "net.pth", tmp_path).generate(z), expected) < TOLERANCE

    def test_names_of_data_parallel(self, tmp_path):
        G, D = zoo_networks(self.settings)
        parallel = [OrderedDict((f"module.{name}", x) for name, x in each.items()) for each in (G, D)]
        save_zoo(tmp_path / "net.pth", self.settings, netG=parallel[0], netD=parallel[1])
        snapshot = made(tmp_path / "net.pth", tmp_path)
        assert error(snapshot.generate(latents(8)), zoo_images(self.settings, G, latents(8))) < TOLERANCE
        assert snapshot.D is not None

    def test_without_average_or_discriminator(self, tmp_path, capsys):
        G, D = zoo_networks(self.settings)
        for networks, has in (({"netG": G, "netD": D}, ["G", "D"]), ({"avgG": G}, []), ({"netG": G}, ["G"])):
            save_zoo(tmp_path / "net.pth", self.settings, **networks)
            capsys.readouterr()
            made(tmp_path / "net.pth", tmp_path, "--json")
            assert json.loads(capsys.readouterr().out)["networks"] == ["Gs", *has]
        G, _ = aka_networks([4, 4], 4)
        torch.save({"conf": {"use_eql": True}, "state_dict": G}, tmp_path / "alone.bin")
        images = made(tmp_path / "alone.bin", tmp_path).generate(latents(4))
        assert error(images, aka_images(G, latents(4), 3)) < TOLERANCE

    def test_a_discriminator_that_ours_is_not_is_left_out_and_said(self, tmp_path, capsys):
        settings = {**self.settings, "lossCriterion": "DCGAN"}
        G, D = zoo_networks(settings)
        D["decisionLayer.module.weight"] = torch.ones(2, 4)
        save_zoo(tmp_path / "net.pth", settings, netG=G, netD=D)
        assert made(tmp_path / "net.pth", tmp_path).D is None
        assert "without its discriminator: dense1.weight would have the shape [2, 4]" in capsys.readouterr().err
        G, D = aka_networks([4, 4], 4)
        save_aka(tmp_path / "net.bin", 4, generator=G, discriminator=D)
        content = torch.load(tmp_path / "net.bin")
        content["discriminator"]["conf"]["num_classes"] = 3
        torch.save(content, tmp_path / "net.bin")
        assert made(tmp_path / "net.bin", tmp_path).D is None
        assert "judges classes by an embedding" in capsys.readouterr().err

    def test_one_that_does_not_fit_is_left_out_and_said(self, tmp_path, capsys):
        G, D = zoo_networks(self.settings)
        other = zoo_networks(zoo_settings([4, 6]))
        broken = {name: x for name, x in G.items() if "groupScale0" not in name}
        for networks, lost in (
            ({"netG": other[0], "netD": D}, "G"),
            ({"netG": broken, "netD": D}, "G"),
            ({"netG": G, "netD": other[1]}, "D"),
            ({"netG": G, "netD": G}, "D"),
        ):
            save_zoo(tmp_path / "net.pth", self.settings, avgG=G, **networks)
            snapshot = made(tmp_path / "net.pth", tmp_path)
            assert [snapshot.raw is None, snapshot.D is None] == [lost == "G", lost == "D"]
            said = {"G": "without the trained generator, only its average:", "D": "without its discriminator:"}[lost]
            assert f"note: {said}" in capsys.readouterr().err
        G, D = aka_networks([4, 4], 4)
        save_aka(tmp_path / "net.bin", 4, generator=G, discriminator=aka_networks([4, 4, 4], 4)[1], shadow_generator=G)
        assert made(tmp_path / "net.bin", tmp_path).D is None
        assert "note: without its discriminator:" in capsys.readouterr().err

    def test_names_of_classes_and_of_several_attributes(self, tmp_path):
        one = {"Main": {"order": 0, "values": ["wood", "sand", "silk"]}}
        several = {
            "hat": {"order": 1, "values": ["cap", "none"]},
            "hair": {"order": 0, "values": ["red", "fair", "no"]},
        }
        for order, count, names, kind in (
            (one, 3, ("wood", "sand", "silk"), "class"),
            (several, 5, ("hair=red", "hair=fair", "hair=no", "hat=cap", "hat=none"), "attributes"),
            (None, 3, ("0", "1", "2"), "class"),
        ):
            settings = zoo_settings([4, 4], categoryVectorDim=count, attribKeysOrder=order)
            save_zoo(tmp_path / "net.pth", settings, avgG=zoo_networks(settings)[0])
            snapshot = made(tmp_path / "net.pth", tmp_path)
            assert (snapshot.info.label_names, snapshot.info.label_kind) == (names, kind)
        settings = zoo_settings([4, 4], categoryVectorDim=5, attribKeysOrder=several)
        save_zoo(tmp_path / "net.pth", settings, avgG=zoo_networks(settings)[0])
        rows = made(tmp_path / "net.pth", tmp_path).labels(["hair=no,hat=none"])
        assert rows.tolist() == [[0, 0, 1, 0, 1]]

    def test_number_of_classes_from_the_latents(self, tmp_path):
        settings = zoo_settings([4, 4], categoryVectorDim=3)
        average = zoo_networks(settings)[0]
        del settings["categoryVectorDim"]
        save_zoo(tmp_path / "net.pth", settings, avgG=average)
        assert made(tmp_path / "net.pth", tmp_path).info.label_names == ("0", "1", "2")

    def test_licence(self, tmp_path):
        save_zoo(tmp_path / "net.pth", self.settings, avgG=zoo_networks(self.settings)[0])
        assert made(tmp_path / "net.pth", tmp_path).info.licence == "", "that of a port is not known"
        assert made(tmp_path / "net.pth", tmp_path, "--licence", "MIT").info.licence == "MIT"

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda c: c.pop("config"), "it has no config"),
            (lambda c: c.pop("avgG"), "neither netG nor avgG"),
            (lambda c: c["avgG"].popitem(), "it has no tensor groupScale0.0.module.bias"),
            (lambda c: c["avgG"].update(extra=torch.ones(1)), "a tensor 'extra', which such networks have not"),
            (lambda c: c["avgG"].update(extra=3), "holds more than tensors"),
            (lambda c: c["avgG"].update({"main.1.running_mean": torch.ones(4)}), "batch normalisation"),
            (lambda c: c["avgG"].update({"formatLayer.module.bias": torch.ones(5)}), r"shape \[5\], not \[64\]"),
            (lambda c: c["avgG"].update({"formatLayer.module.bias": torch.full((64,), math.nan)}), "not finite"),
            (lambda c: c["avgG"].update({"formatLayer.module.bias": torch.ones(64).long()}), "is no weight"),
            (lambda c: c["config"].update(alpha=1.5), "alpha is no number from 0 to 1"),
            (lambda c: c["config"].update(alpha="x"), "alpha is no number from 0 to 1"),
            (lambda c: c["config"].update(equalizedlR=1), "equalizedlR is neither true nor false"),
            (lambda c: c["config"].update(lossCriterion="mine"), "its loss 'mine' is not known"),
            (lambda c: c["config"].update(categoryVectorDim=8), "has 8 inputs, 8 of them for labels"),
            (lambda c: c["config"].update(categoryVectorDim=-1), "is no number of labels"),
        ],
    )
    def test_what_does_not_fit_is_said(self, spoil, message, tmp_path):
        content = {"config": dict(self.settings), "avgG": dict(zoo_networks(self.settings)[0])}
        spoil(content)
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(SnapshotError, match=message) as caught:
            import_network(tmp_path / "net.pth")
        assert "\n" not in str(caught.value)

    def test_resolutions_that_are_not_there(self, tmp_path):
        save_zoo(tmp_path / "net.pth", self.settings, avgG=zoo_networks(self.settings)[0])
        with pytest.raises(SnapshotError, match="saved at 8x8, not at 4x4"):
            import_network(tmp_path / "net.pth", resolution=4)
        save_aka(tmp_path / "net.bin", 4, generator=aka_networks([4, 4], 4)[0])
        with pytest.raises(SnapshotError, match="no layers of 16x16, only up to 8x8"):
            import_network(tmp_path / "net.bin", resolution=16)


def zipped(pickled: bytes, method: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """A file of torch.save with this pickle and these numbers."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("net/data.pkl", pickled)
        for name, numbers in entries.items():
            archive.writestr(f"net/data/{name.removeprefix('n')}", numbers)
    return content.getvalue()


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    """Instructions that refer to numbers."""
    number = b"\x8a\x08" + struct.pack("<q", count)
    return b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + number + b"tQ"


def tensor(numbers: bytes, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of one tensor."""

    def whole(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in values) + b"t"

    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + numbers
    return b"\x80\x02" + rebuild + b"\x8a\x08" + struct.pack("<q", offset) + whole(size) + whole(stride) + b"\x89)tR."


def hostile(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Files by what is wrong with them, and what is said. Code that ran would make the marker."""
    touch, numbers = f"touch {marker}", bytes(16)
    network = io.BytesIO()
    torch.save({"netG": torch.nn.Linear(2, 2)}, network)
    legacy = io.BytesIO()
    torch.save({"netG": {"a": torch.ones(4)}}, legacy, _use_new_zipfile_serialization=False)
    old = legacy.getvalue()
    return {
        "os.system": (zipped(call("os", "system", touch)), "asks for 'os' 'system'"),
        "eval": (zipped(call("builtins", "eval", touch)), "asks for 'builtins' 'eval'"),
        "old global": (zipped(b"\x80\x02cos\nsystem\n(" + text(touch) + b"tR."), "asks for 'os' 'system'"),
        "inst": (zipped(b"(S'" + touch.encode() + b"'\nios\nsystem\n."), "uses STRING"),
        "obj": (zipped(b"(cos\nsystem\n" + text(touch) + b"o."), "uses OBJ"),
        "os.system in an old file": (torch_file.LEGACY + call("os", "system", touch) * 4, "asks for 'os' 'system'"),
        "torch.load": (zipped(call("torch", "load", str(marker))), "asks for 'torch' 'load'"),
        "a name PyTorch admits": (zipped(call("torch", "device", "cpu")), "asks for 'torch' 'device'"),
        "a whole module": (network.getvalue(), "which no network needs"),
        "another class of the port": (zipped(call("models.utils.config", "getConfigFromDict", "x")), "asks for"),
        "dotted name": (zipped(call("models.utils.config", "BaseConfig.__init__.__globals__", "x")), "asks for"),
        "settings made of words": (
            zipped(b"\x80\x02cmodels.utils.config\nBaseConfig\n)\x81" + text("x") + b"b."),
            "settings have no names",
        ),
        "function changed": (
            zipped(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b."),
            "it changes a function",
        ),
        "no dict": (zipped(b"\x80\x02]."), "no dict of networks"),
        "numbers called": (zipped(numpy_call("torch", "FloatStorage", b")")), "it is damaged"),
        "no pickle": (zipped(b"x"), "it is no pickle"),
        "no such entry": (zipped(tensor(storage("1"), 0, (4,), (1,)), n0=numbers), "a zip without data/1"),
        "elsewhere": (zipped(tensor(storage("../../etc/passwd"), 0, (4,), (1,)), n0=numbers), "a zip without data/"),
        "numbers longer than their entry": (zipped(tensor(storage(count=8), 0, (8,), (1,)), n0=numbers), "length"),
        "numbers of 2^60": (zipped(tensor(storage(count=2**60), 0, (8,), (1,)), n0=numbers), "length"),
        "fewer than none": (zipped(tensor(storage(count=-4), 0, (4,), (1,)), n0=numbers), "no tensor's numbers"),
        "tensor beyond its numbers": (zipped(tensor(storage(), 0, (5,), (1,)), n0=numbers), "larger than its numbers"),
        "tensor after its numbers": (zipped(tensor(storage(), 2, (3,), (1,)), n0=numbers), "larger than its numbers"),
        "stride beyond": (zipped(tensor(storage(), 0, (2, 2), (3, 1)), n0=numbers), "larger than its numbers"),
        "before its numbers": (zipped(tensor(storage(), -1, (2,), (1,)), n0=numbers), "strange shape"),
        "backwards": (zipped(tensor(storage(), 3, (4,), (-1,)), n0=numbers), "strange shape"),
        "one number as 2^40": (zipped(tensor(storage(), 0, (2**20, 2**20), (0, 0)), n0=numbers), "larger than its"),
        "objects": (zipped(tensor(storage(kind="UntypedStorage"), 0, (4,), (1,)), n0=numbers), "asks for 'torch'"),
        "compressed": (zipped(b"\x80\x02].", zipfile.ZIP_DEFLATED), "it is compressed"),
        "zip cut short": (zipped(b"\x80\x02].")[:60], "a damaged zip"),
        "zip of something else": (zipped(b"\x80\x02].").replace(b"data.pkl", b"info.pkl"), "a zip without data.pkl"),
        "old file cut short": (old[:-4], "another length"),
        "old file without numbers": (old[:-24], "cut short"),
        "old file, other length": (old[:-24] + struct.pack("<q", 3) + old[-16:], "another length"),
    }


MARKER = "code-that-ran"


@pytest.mark.parametrize("name", hostile(Path(MARKER)))
def test_a_hostile_file_gets_one_line_and_runs_nothing(name, tmp_path, capsys):
    content, message = hostile(tmp_path / MARKER)[name]
    (tmp_path / "net.pth").write_bytes(content)
    assert main(["import", str(tmp_path / "net.pth"), str(tmp_path / "out.safetensors")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert "damaged (Attribute" not in captured.err, "an accident, not a check"
    assert captured.out == ""
    assert not (tmp_path / MARKER).exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_the_hostile_files_would_run_code_elsewhere(tmp_path):
    with zipfile.ZipFile(io.BytesIO(hostile(tmp_path / MARKER)["os.system"][0])) as archive:
        pickle.loads(archive.read("net/data.pkl"))
    assert (tmp_path / MARKER).exists()


def test_an_entry_that_is_read_again_and_again(tmp_path):
    """Zips may name the same bytes many times: together they are no longer than the file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        pickled = b"".join(tensor(storage(str(i), 1000), 0, (1000,), (1,))[2:-1] for i in range(50))
        archive.writestr("net/data.pkl", b"\x80\x02](" + pickled + b"e.")
        archive.writestr("net/data/0", bytes(4000))
        for i in range(1, 50):
            entry = zipfile.ZipInfo(f"net/data/{i}")
            first = archive.getinfo("net/data/0")
            entry.header_offset, entry.file_size, entry.compress_size, entry.CRC = (
                first.header_offset, first.file_size, first.compress_size, first.CRC,
            )  # fmt: skip
            archive.filelist.append(entry)
    (tmp_path / "net.pth").write_bytes(content.getvalue())
    with pytest.raises(SnapshotError):
        import_network(tmp_path / "net.pth")


def test_a_huge_file_is_refused_unread(tmp_path):
    with (tmp_path / "net.pth").open("wb") as file:
        file.write(torch_file.ZIP)
        os.truncate(file.fileno(), 2**31 + 1)
    with pytest.raises(SnapshotError, match="more than any such file"):
        import_network(tmp_path / "net.pth")
