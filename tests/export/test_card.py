"""Cards, folders to share, the runtime of the page, and what becomes of mistakes."""

import hashlib
import io
import json
import math
import tarfile

import numpy as np
import pytest
from PIL import Image

from generators import small, write_run
from progan import models
from progan.cli import main
from progan.commands import ExportConfig, WebConfig
from progan.data.cache import clear_cache, list_cache
from progan.errors import ExportError
from progan.export import onnx, web
from progan.export.card import card, check_folder
from progan.export.source import open_source
from progan.progress import silent
from progan.sampling import load
from progan.snapshot import Snapshot

STATS = "".join(
    json.dumps(line) + "\n"
    for line in (
        {"cur_nimg": 8000, "resolution": 8, "metrics/G_ema/swd": 4.5, "metrics/floor/swd": 1.0},
        {"cur_nimg": 15000, "resolution": 16, "metrics/G_ema/swd": 3.25, "metrics/G_ema/ms_ssim": 0.5},
        {"cur_nimg": 15500, "resolution": 16, "metrics/G_ema/swd": None},
        {"cur_nimg": 17000, "resolution": 16, "metrics/G_ema/swd": 99.0},  # after the snapshot
        {"cur_nimg": 17000, "resolution": 16, "D/real": 1.0},
    )
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "digits", stats=STATS)


def front(text):
    """Metadata of a card: YAML whose values are JSON."""
    head = text.split("---\n")[1]
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in head.splitlines())}


def test_a_folder_to_share_holds_all_that_the_hub_wants(run, tmp_path, capsys):
    assert main(["share", str(run.path), str(tmp_path / "out"), "--licence", "MIT"]) == 0
    said = capsys.readouterr().out
    assert f"hf upload USER/NAME {tmp_path / 'out'}" in said
    names = {path.name for path in (tmp_path / "out").iterdir()}
    snapshots = {f"generator-{r}x{r}.safetensors" for r in (8, 16)}
    assert names == {"README.md", "LICENSE", "samples.png"} | snapshots
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    facts = front(text)
    assert facts["license"] == "mit"
    assert facts["pipeline_tag"] == "unconditional-image-generation"
    small_, large = facts["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in large["metrics"]} == {"swd": 3.25, "ms_ssim": 0.5}
    assert small_["metrics"][0]["value"] == 4.5
    assert "<things>" not in text.split("---\n")[2]  # names from outside are no HTML
    # The snapshots are the run's own but for the licence.
    z = load(run.path).latents(range(2))
    shared = load(tmp_path / "out" / "generator-16x16.safetensors")
    assert np.array_equal(shared.generate(z), load(run.path).generate(z))
    assert shared.info.licence == "MIT"
    assert "MIT" in (tmp_path / "out" / "LICENSE").read_text()


def test_the_grid_shows_the_first_seeds(run, tmp_path):
    main(["share", str(run.path), str(tmp_path / "out")])
    picture = Image.open(tmp_path / "out" / "samples.png")
    assert picture.text["seed"] == ",".join(map(str, range(64)))
    first = np.asarray(picture)[:64, :64][::4, ::4]
    snapshot = load(run.path)
    images = snapshot.generate(snapshot.latents([0]))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(first, np.clip(np.round((images + 1) * 127.5), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("licence", "key", "name"),
    [("", "other", "unknown"), ("CC-BY-NC-4.0", "cc-by-nc-4.0", None), ("my own: ask", "other", "my-own-ask")],
)
def test_a_licence_is_named_as_the_hub_knows_it(run, licence, key, name):
    facts = front(card(open_source(run.path, ExportConfig(licence=licence))))
    assert (facts["license"], facts.get("license_name")) == (key, name)


def test_the_licence_of_a_snapshot_stays(tmp_path):
    path = tmp_path / "a.safetensors"
    made = small()
    info = made.info.__class__(**{**vars(made.info), "licence": "CC BY-NC 4.0"})
    Snapshot(made.G, made.mean, info).save(path)
    assert open_source(path, ExportConfig()).licence == "CC BY-NC 4.0"
    assert front(card(open_source(path, ExportConfig())))["license_name"] == "cc-by-nc-4.0"


def test_another_licence_leaves_no_network_out(tmp_path):
    made = small()
    made.D = models.build(made.info.config.model, made.info.shape, seed=0)[1]
    made.save(tmp_path / "a.safetensors")
    shared = open_source(tmp_path / "a.safetensors", ExportConfig(licence="mit")).last
    assert shared.info.licence == "mit"
    assert shared.D is not None


def test_words_in_another_encoding_are_written_as_their_bytes(run, tmp_path):
    """As a terminal gives them that is not set to UTF-8."""
    assert main(["share", str(run.path), str(tmp_path / "out"), "--title", "caf\udce9", "--licence", "\udce9"]) == 0
    assert "# caf\\\\xe9" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "\\xe9" in (tmp_path / "out" / "LICENSE").read_text(encoding="utf-8")


def test_the_hub_can_read_the_card(run, tmp_path):
    """By its own library, where that is installed."""
    hub = pytest.importorskip("huggingface_hub")
    main(["share", str(run.path), str(tmp_path / "out"), "--licence", "mit"])
    data = hub.ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.license == "mit"
    assert {result.metric_type for result in data.eval_results} == {"swd", "ms_ssim"}


def test_what_lies_in_a_folder_is_not_lost(run, tmp_path):
    """A folder with other files, another README or a file is refused; an export of ours, also under git, is not."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds other files"):
        check_folder(tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text("# mine")
    with pytest.raises(ExportError, match=r"README\.md is not a card of progan"):
        check_folder(tmp_path / "mine")
    with pytest.raises(ExportError, match="is a file"):
        check_folder(tmp_path / "mine" / "notes.txt")
    (tmp_path / "out" / ".git").mkdir(parents=True)
    for _ in range(2):
        assert main(["share", str(run.path), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / ".git").exists()


def test_generators_of_an_earlier_export_go_once_the_new_ones_are_there(run, tmp_path, monkeypatch):
    """Of another form, or of other resolutions; what only has a similar name stays."""
    out = tmp_path / "out"
    assert main(["share", str(run.path), str(out)]) == 0
    for name in ("generator-16x16.onnx", "generator-extra.onnx", "generator-8x16.onnx", "generator-8x8.txt"):
        (out / name).touch()
    before = {path.name for path in out.iterdir()}

    def fail(snapshot, path):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, "save", fail)
        assert main(["share", str(run.path), str(out), "--resolutions", "16"]) == 2
    assert {path.name for path in out.iterdir()} == before
    assert main(["share", str(run.path), str(out), "--resolutions", "16"]) == 0
    assert {path.name for path in out.iterdir()} == before - {"generator-8x8.safetensors", "generator-16x16.onnx"}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("share nowhere OUT", "nowhere does not exist. Give a run folder, a snapshot"),
        ("share RUN OUT --resolutions 8,64", "--resolutions: there is no snapshot of '64', only of 8, 16"),
        ("share RUN OUT --resolutions ,", "--resolutions: there is no snapshot of 'nothing', only of 8, 16"),
        ("export web RUN OUT --runtime nowhere", "--runtime: nowhere does not exist"),
        ("export web RUN OUT --icon-seed -1", "--icon-seed must be at least 0"),
        ("export onnx RUN OUT --weights int8", "--weights must be one of fp32, fp16"),
        ("export onnx", "the following arguments are required: OUT"),
        ("export tflite RUN OUT", "there is no command 'tflite'; there are onnx, web"),
    ],
)
def test_mistakes_are_answered_in_one_line(run, tmp_path, capsys, words, error):
    places = {"RUN": str(run.path), "OUT": str(tmp_path / "out")}
    assert main([places.get(word, word) for word in words.split()]) == 2
    said = capsys.readouterr().err
    assert error in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_numbers_that_are_none_are_left_out(tmp_path):
    folder = write_run(tmp_path / "run", stats=STATS.replace("3.25", "NaN"))
    values = open_source(folder.path, ExportConfig()).metrics
    assert values == {8: {"swd": 4.5}, 16: {"ms_ssim": 0.5}}
    assert all(math.isfinite(value) for numbers in values.values() for value in numbers.values())


def test_icons_are_made_of_a_picture(run):
    """Whole pixels; a maskable one keeps the picture in the circle that launchers leave."""
    snapshot = load(run.path)
    plain, masked = (
        np.asarray(Image.open(io.BytesIO(web.icon(web.portrait(snapshot, 3), 192, m)))) for m in (False, True)
    )
    images = snapshot.generate(snapshot.latents([3]))[0].permute(1, 2, 0).numpy()
    wanted = np.clip(np.round((images + 1) * 127.5), 0, 255).astype(np.uint8)
    assert np.array_equal(plain[6::12, 6::12], wanted)
    assert masked.shape == (192, 192, 3)
    assert np.ptp(masked[:19].reshape(-1, 3), axis=0).max() == 0


# The runtime: a package that is not the pinned one is refused, wherever it comes from.


def package(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def pinned(monkeypatch, tmp_path):
    """Files that are taken for the pinned ones, and an empty cache."""
    files = {name: name.encode() * 100 for name in web.HASHES}
    monkeypatch.setattr(web, "HASHES", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    return files


def test_a_runtime_is_taken_from_a_file_or_a_folder(pinned, tmp_path):
    path = package(tmp_path / "a.tgz", {f"package/dist/{name}": content for name, content in pinned.items()})
    found = web.runtime_files(WebConfig(runtime=str(path)), silent)
    assert [file.read_bytes() for file in found.values()] == [pinned[name] for name in found]
    assert [entry.name for entry in list_cache()] == ["onnxruntime-web-1.30.0"]
    (tmp_path / "folder" / "dist").mkdir(parents=True)
    for name, content in pinned.items():
        (tmp_path / "folder" / "dist" / name).write_bytes(content)
    for place in (tmp_path / "folder", tmp_path / "folder" / "dist"):
        assert len(web.runtime_files(WebConfig(runtime=str(place), webgpu=True), silent)) == 4
    clear_cache()
    assert list_cache() == []


def test_a_page_works_until_another_takes_its_place(run, pinned, tmp_path, monkeypatch):
    """Whatever fails before, all that its progan.json names is there; afterwards only what the new one names."""
    path = package(tmp_path / "a.tgz", {f"package/dist/{name}": content for name, content in pinned.items()})
    out, graph = tmp_path / "out", onnx.Graph(b"first", 0.0, 0)
    monkeypatch.setattr(onnx, "require", lambda: None)
    monkeypatch.setattr(onnx, "make", lambda *_: graph)
    words = ["export", "web", str(run.path), str(out), "--runtime", str(path)]
    assert main([*words, "--webgpu"]) == 0

    def large():
        return {str(file.relative_to(out)) for name in ("models", "runtime") for file in (out / name).iterdir()}

    first, graph, write = large(), onnx.Graph(b"second", 0.0, 0), web.write_whole
    assert len(first) == 6

    for last in ("index.html", "shell.js"):

        def full(path, *content, last=last):
            if path.name == last:
                raise OSError("the disk is full")
            write(path, *content)

        with monkeypatch.context() as patch:
            patch.setattr(web, "write_whole", full)
            assert main([*words, "--resolutions", "16"]) == 2
        assert first <= large()
    assert main([*words, "--resolutions", "16"]) == 0
    assert not (out / "generator-8x8.safetensors").exists()
    facts = json.loads((out / "progan.json").read_text(encoding="utf-8"))
    named = {model["file"] for model in facts["models"]} | {
        facts["runtime"]["wasm"][key] for key in ("module", "binary")
    }
    assert large() == named


def test_another_runtime_is_refused(pinned, tmp_path):
    first, *_ = pinned
    cases = {
        "other": {f"package/dist/{name}": content + b"!" for name, content in pinned.items()},
        "less": {f"package/dist/{name}": content for name, content in pinned.items() if name != first},
        "outside": {f"package/dist/../{name}": content for name, content in pinned.items()},
    }
    for name, files in cases.items():
        path = package(tmp_path / f"{name}.tgz", files)
        with pytest.raises(ExportError, match=r"is not onnxruntime-web 1\.30\.0"):
            web.runtime_files(WebConfig(runtime=str(path)), silent)
    (tmp_path / "text.tgz").write_text("no archive")
    with pytest.raises(ExportError, match="cannot be read as a package"):
        web.runtime_files(WebConfig(runtime=str(tmp_path / "text.tgz")), silent)
    assert not (tmp_path / "cache").exists()


def test_npm_fetches_it_once(pinned, tmp_path, monkeypatch):
    """By a program of that name that packs the files; without one the error says what to do."""
    source = package(tmp_path / "a.tgz", {f"package/dist/{name}": content for name, content in pinned.items()})
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "npm"
    program.write_text(
        f'#!/bin/sh\n[ "$2" = onnxruntime-web@1.30.0 ] && /bin/cp {source} "$5" && echo >> {tmp_path}/calls\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    said: list[str] = []
    for _ in range(2):
        assert len(web.runtime_files(WebConfig(), said.append)) == 2
    assert (tmp_path / "calls").read_text() == "\n"
    assert len(said) == 1
    assert "fetching onnxruntime-web 1.30.0 by npm, once" in said[0]
    clear_cache()
    program.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    with pytest.raises(ExportError, match=r"npm could not fetch onnxruntime-web 1\.30\.0: no network"):
        web.runtime_files(WebConfig(), silent)
    program.unlink()
    with pytest.raises(ExportError, match=r"npm, which fetches it, is not installed.*--runtime FILE"):
        web.runtime_files(WebConfig(), silent)
