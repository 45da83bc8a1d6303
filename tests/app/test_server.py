"""The server of the page: its pictures are those of sample, and nobody gets what is not theirs."""

import asyncio
import base64
import gc
import json
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, wait
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from generators import ATTRIBUTES, small, write_run
from progan import tensorfile
from progan.app import desk as desk_module
from progan.app import guard, pictures, runs, server
from progan.app.pictures import BusyError, Studio
from progan.app.runs import Missing, Shelf, Watch
from progan.cli import main
from progan.commands import AppConfig
from progan.errors import ConfigError, DatasetError, RunError
from progan.files import write_whole
from progan.images import to_pixels
from progan.progress import silent
from progan.run_folder import RunFolder
from progan.sampling import finding, load
from progan.sampling.interpolation import between, show, slerp
from progan.sampling.pictures import Drawing

testclient = pytest.importorskip("starlette.testclient")
TOKEN = "a-token-of-the-tests"
HOME = "http://127.0.0.1:7860"
CLASSES = ("one", "two <b>", "drei ü")
SECRET = "what nobody may read"
PICTURE = "/api/picture?run={run}&model=generator-000016000-16x16&seed=7"
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX links and locks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of every kind, a comparison, and links that lead out of them."""
    top = tmp_path_factory.mktemp("app")
    (top / "secret").mkdir()
    for name in ("file.png", "fakes-000000001-8x8.png"):
        (top / "secret" / name).write_text(SECRET)
    write_run(top / "secret" / "run")
    root = top / "runs"
    root.mkdir()
    write_run(root / "plain")
    write_run(root / "class", kind="class", names=CLASSES, channels=1)
    write_run(root / "attributes", kind="attributes", names=ATTRIBUTES)
    write_run(root / "odd <b> & 'n\"ame'")
    (root / "comparison" / "runs").mkdir(parents=True)
    write_run(root / "comparison" / "runs" / "deep")
    (root / "comparison" / "comparison.json").write_text("{}")
    (root / "comparison" / "report.html").write_text("<!doctype html><p>which is better")
    if sys.platform != "win32":
        (root / "linked").symlink_to(top / "secret" / "run")
        (root / "plain" / "samples").mkdir()
        (root / "plain" / "samples" / "fakes-000000001-8x8.png").symlink_to(top / "secret" / "file.png")
        (root / "plain" / "report.html").symlink_to(top / "secret" / "file.png")
        stolen = root / "plain" / "snapshots" / "generator-000000001-8x8.safetensors"
        stolen.symlink_to(next((top / "secret" / "run" / "snapshots").iterdir()))
        (root / "class" / "samples").symlink_to(top / "secret")
        (root / "linked.json").mkdir()
        (root / "linked.json" / "config.json").symlink_to(top / "secret" / "run" / "config.json")
        os.mkdir(os.fsencode(root) + b"/caf\xe9")
        write_run(root / os.fsdecode(b"caf\xe9") / "run")
    (root / "class" / "samples2").mkdir()
    return root


def open_app(folder, host="127.0.0.1", **options):
    desk = server.Desk(Shelf(folder.resolve()), AppConfig(**options))
    return desk, server.application(desk, TOKEN, host)


def visit(app, home=HOME, token=True, **headers):
    """A client as a browser is, that has opened the address with the token, or not."""
    client = testclient.TestClient(app, home, follow_redirects=False, raise_server_exceptions=False)
    client.headers.update(headers)
    if token:
        assert client.get(f"/?token={TOKEN}").status_code == 303
    return client


@pytest.fixture(scope="module")
def app(folder):
    return open_app(folder)[1]


@pytest.fixture
def client(app):
    return visit(app)


def until(happens, seconds=60):
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pixels_of(answer):
    assert answer.status_code == 200, answer.text
    side = int(answer.headers["x-progan-side"])
    return np.frombuffer(answer.content, np.uint8).reshape(side, side, 3)


def as_shown(pixels):
    """Pixels uint8 [C, R, R] as the page gets them."""
    return np.broadcast_to(pixels.permute(1, 2, 0).numpy(), (*pixels.shape[1:], 3))


# Pictures


@pytest.mark.parametrize(("resolution", "seed", "truncation"), [(16, 7, 1.0), (16, 2**63 - 1, 0.35), (8, 0, 1.0)])
def test_a_picture_is_that_of_sample(client, folder, resolution, seed, truncation):
    query = f"run=plain&model=generator-{resolution * 1000:09d}-{resolution}x{resolution}&seed={seed}"
    got = pixels_of(client.get(f"/api/picture?{query}&truncation={truncation}"))
    drawing = Drawing(load(folder / "plain", resolution), [seed], (), truncation)
    assert np.array_equal(got, as_shown(next(drawing.pixels())[0]))


@pytest.mark.parametrize(
    ("run", "label", "row"), [("class", CLASSES[1], 0), ("attributes", "", 2), ("attributes", "hat=cap,smile", 1)]
)
def test_labels_are_those_of_sample(client, folder, run, label, row):
    got = pixels_of(client.get(f"{PICTURE.format(run=run)}&label={quote(label)}&row={row}"))
    # The rows of attributes are those of the data in turn, as in a call of so many seeds.
    drawing = Drawing(load(folder / run), [7] * (row + 1), [""] * row + [label])
    assert np.array_equal(got, as_shown(torch.cat(list(drawing.pixels()))[-1]))


def test_the_seconds_of_a_picture_are_neither_those_of_waiting_nor_of_loading(folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slow(name, seconds):
        original = getattr(Studio, name)

        def call(*given):
            now[0] += seconds
            return original(*given)

        monkeypatch.setattr(Studio, name, call)

    slow("snapshot", 100)
    slow("_pixels", 1)
    desk, app = open_app(folder)
    client = visit(app)
    before = desk.studio.do(lambda: now.__setitem__(0, now[0] + 1000))
    assert client.get(PICTURE.format(run="plain")).headers["x-progan-seconds"] == "1.0000"
    assert before.done()


def test_a_morph_lies_on_the_great_circle(client, folder):
    snapshot = load(folder / "plain")
    z = slerp(snapshot.latents([7]), snapshot.latents([9]), 0.25)
    got = pixels_of(client.get(PICTURE.format(run="plain") + "&to=9&t=0.25"))
    assert np.array_equal(got, as_shown(to_pixels(snapshot.generate(z))[0]))


@pytest.mark.parametrize("to", [None, 9])
@pytest.mark.parametrize(
    ("run", "label", "to_label", "whole"),
    [
        ("class", CLASSES[0], CLASSES[2], CLASSES[2]),
        ("attributes", "", "hat=cap", "hat=cap"),
        ("attributes", "hat=none", "smile", "hat=none,smile"),  # what the end does not name stays
    ],
)
def test_a_morph_goes_from_label_to_label(client, folder, run, label, to_label, whole, to):
    """As `progan interpolate` goes; the latent stays or moves as well."""
    snapshot = load(folder / run)
    ends = [(snapshot.latents([seed]), snapshot.labels([name])) for seed, name in ((7, label), (to or 7, whole))]
    way = list(between(*ends, 5))
    query = f"{PICTURE.format(run=run)}&label={quote(label)}&toLabel={quote(to_label)}{f'&to={to}' if to else ''}"
    got = [pixels_of(client.get(f"{query}&t={i / 4}")) for i in range(5)]
    for shown, moment in zip(got, way, strict=True):
        assert np.array_equal(shown, as_shown(show(snapshot, moment)[0]))
    assert not np.array_equal(got[0], got[2])
    assert not np.array_equal(got[2], got[4])


@pytest.mark.parametrize("kind", ["webp", "mp4"])
def test_a_film_goes_there_and_back(kind, client, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "FILM_FRAMES", 4)
    address = f"/api/film?run=class&model=generator-000016000-16x16&seed=1&kind={kind}"
    if kind == "mp4":
        av = pytest.importorskip("av")
    way = f"&to=2&label={CLASSES[0]}&toLabel={quote(CLASSES[2])}"
    answer = client.get(address + way)
    assert answer.headers["content-type"] == pictures.FILM_TYPES[kind]
    if kind == "webp":
        film = Image.open(BytesIO(answer.content))
        assert (film.format, film.n_frames, film.size) == ("WEBP", 6, (256, 256))
        frames = [np.asarray(each.convert("RGB")) for each in ImageSequence.Iterator(film)]
    else:
        with av.open(BytesIO(answer.content)) as film:
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 6
    # The second frame, and the last, a third of the way.
    shown = pixels_of(client.get(f"{PICTURE.format(run='class').replace('seed=7', 'seed=1')}{way}&t={1 / 3:.17f}"))
    for frame in (frames[1], frames[5]):
        assert np.abs(frame[8::16, 8::16].astype(int) - shown).mean() < 8
    assert client.get(address).status_code == 400  # it goes nowhere
    assert client.get(f"{address}&to=2&kind=gif").json() == {"error": "a film is one of webp, mp4"}
    # Without the package for it an MP4 is not offered, and refused with the command that helps.
    monkeypatch.setitem(sys.modules, "av", None)
    assert client.get("/progan.json").json()["server"]["mp4"] is False
    assert (client.get(address + way).status_code == 400) is (kind == "mp4")


def test_the_page_knows_runs_and_labels(client, folder):
    facts = client.get("/progan.json?run=attributes").json()
    assert facts["labels"]["kind"] == "attributes"
    assert tuple(facts["labels"]["names"]) == ATTRIBUTES
    assert len(facts["labels"]["rows"]) == 3
    assert [model["resolution"] for model in facts["models"]] == [8, 16]
    assert facts["snapshot"] == load(folder / "attributes").digest
    known = {run["name"] for run in facts["server"]["runs"]}
    assert {"plain", "class", "attributes", "comparison/runs/deep", "odd <b> & 'n\"ame'"} <= known
    assert facts["server"]["comparisons"] == ["comparison"]
    assert facts["server"]["change"]
    assert not visit(open_app(folder)[1], token=False).get("/progan.json").json()["server"]["change"]


def test_without_a_run_the_page_says_where_it_looks(tmp_path):
    client = visit(open_app(tmp_path / "runs")[1])
    facts = client.get("/progan.json").json()
    assert facts["models"] == facts["server"]["runs"] == []
    assert facts["server"]["folder"] == str((tmp_path / "runs").resolve())
    assert client.get("/").status_code == 200


def test_a_run_folder_is_a_shelf_of_one(folder):
    facts = visit(open_app(folder / "plain")[1]).get("/progan.json").json()
    assert [run["name"] for run in facts["server"]["runs"]] == ["plain"]
    assert pixels_of(visit(open_app(folder / "plain")[1]).get(PICTURE.format(run="plain"))).shape == (16, 16, 3)


def test_a_run_that_was_deleted_is_not_shown(folder, tmp_path):
    """At once, though the list of runs holds for a while."""
    for name in ("kept", "deleted"):
        shutil.copytree(folder / "plain", tmp_path / name)
    os.utime(tmp_path / "kept" / "config.json", (1, 1))
    client = visit(open_app(tmp_path)[1])
    assert client.get("/progan.json").json()["title"] == "deleted"
    shutil.rmtree(tmp_path / "deleted")
    answer = client.get("/progan.json")
    assert (answer.status_code, answer.json()["title"]) == (200, "kept")


def test_each_model_says_which_snapshot_it_is(client, folder):
    models = client.get("/progan.json?run=plain").json()["models"]
    assert [model["snapshot"] for model in models] == [load(folder / "plain", size).digest for size in (8, 16)]


@pytest.mark.parametrize("damaged", [["16"], ["8"], ["8", "16"]])
def test_a_damaged_snapshot_hides_neither_others_nor_other_runs(damaged, folder, tmp_path):
    for name in ("older", "newest"):
        shutil.copytree(folder / "class", tmp_path / name, symlinks=True)
    os.utime(tmp_path / "older" / "config.json", (1, 1))
    files = [next((tmp_path / "newest" / "snapshots").glob(f"*-{size}x{size}.safetensors")) for size in damaged]
    for file in files:
        file.write_bytes(file.read_bytes()[:3000])
    client = visit(open_app(tmp_path)[1])
    facts = client.get("/progan.json").json()
    assert [run["name"] for run in facts["server"]["runs"]] == ["newest", "older"]
    left = [int(size) for size in ("8", "16") if size not in damaged]
    assert [model["resolution"] for model in facts["models"]] == left
    assert facts["server"]["unread"] == [f"{file.name} is not a snapshot, or is damaged." for file in files]
    if left:
        assert facts["snapshot"] == facts["models"][-1]["snapshot"] == load(tmp_path / "newest", left[-1]).digest
        assert facts["labels"]["names"] == list(CLASSES)
    assert client.get("/progan.json?run=older").json()["server"]["unread"] == []


@pytest.mark.parametrize(
    "address",
    ["/api/picture?run=run&model=generator-000016000-16x16", "/api/grid?run=run&name=fakes-000000001-8x8.png"],
)
def test_what_is_kept_is_asked_for_again_and_is_that_of_the_file(address, tmp_path):
    """A run is deleted, and another one trained under its name."""

    def train(seed):
        folder = write_run(tmp_path / "run", kind="class", names=CLASSES[:seed])
        folder.samples.mkdir()
        Image.new("RGB", (66, 66), (seed, 0, 0)).save(folder.samples / "fakes-000000001-8x8.png")

    train(2)
    client = visit(open_app(tmp_path)[1])
    first = client.get(address)
    assert first.headers["cache-control"] == "private, no-cache"
    kept = {"if-none-match": first.headers["etag"]}
    again = client.get(address, headers=kept)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    shutil.rmtree(tmp_path / "run")
    train(3)
    other = client.get(address, headers=kept)
    assert other.status_code == 200
    assert other.content != first.content


def test_the_page_opens_without_torch(folder):
    code = (
        "import sys; from pathlib import Path\n"
        "from progan.app import runs, server; from progan.commands import AppConfig\n"
        f"desk = server.Desk(runs.Shelf(Path({str(folder)!r})), AppConfig())\n"
        "server.application(desk, 'x', '127.0.0.1')\n"
        "assert runs.facts(desk.shelf, 'plain', True, True)['models']\n"
        "desk.watch(desk.shelf.run('plain')[1])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Who may ask


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost:9999", 200),  # the end of a tunnel has another port
        ("LOCALHOST", 200),
        ("[::1]:7860", 200),
        ("evil.example:7860", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil@localhost", 421),
        ("192.168.1.7:7860", 421),
        ("localhost:x", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_the_host_is_one_of_this_machine(app, host, code):
    assert visit(app, token=False).get("/progan.json", headers={"host": host}).status_code == code


def test_two_hosts_are_refused(app):
    assert (
        visit(app, token=False).get("/", headers=[("host", "localhost"), ("host", "evil.example")]).status_code == 421
    )


@pytest.mark.parametrize("address", ["/api/stop?run=plain", "/api/find?run=plain&model=generator-000016000-16x16"])
def test_what_changes_something_wants_token_and_origin(app, address):
    """400 is what the command itself says here: nothing is trained, and nothing was sent."""

    def post(client, **headers):
        return client.post(address, headers=headers).status_code

    with_token, without = visit(app), visit(app, token=False)
    assert post(without, origin=HOME) == 403
    without.cookies.set("progan-7860", TOKEN[:-1] + "x")
    assert post(without, origin=HOME) == 403
    assert without.post(f"{address}&token={TOKEN}x", headers={"origin": HOME}).status_code == 403
    for origin in ("null", "http://evil.example", "http://127.0.0.1:7861", f"{HOME}.evil.example", "", "file://"):
        assert post(with_token, origin=origin) == 403, origin
    assert post(with_token) == 403
    assert post(with_token, origin=HOME, **{"sec-fetch-site": "same-site"}) == 403
    assert post(with_token, origin=HOME) in (200, 400)
    assert with_token.request("PUT", address).status_code == 405


def test_the_token_goes_into_a_cookie_and_out_of_the_address(app):
    answer = visit(app, token=False).get(f"/?run=a b&token={TOKEN}")
    assert answer.headers["location"] == "./?run=a+b"
    assert answer.headers["set-cookie"] == f"progan-7860={TOKEN}; HttpOnly; SameSite=Strict; Path=/"
    assert "set-cookie" not in visit(app, token=False).get("/?token=another-token-than-it").headers


@pytest.mark.parametrize("other", ['prefs={"a": 1}', "a=b c", "user[id]=3", "x", 'a="b', "name=drei ü", "a@b=1", "="])
def test_the_token_is_found_among_the_cookies_of_other_programs(app, other):
    """A browser sends those of all programs of a host, whatever their ports, and whatever they hold."""

    def knows(cookie):
        client = visit(app, token=False)
        return client.get("/progan.json", headers=[("cookie", cookie.encode())]).json()["server"]["change"]

    assert knows(f"{other}; progan-7860={TOKEN}")
    assert knows(f'progan-7860="{TOKEN}";{other}')
    assert not knows(f"{other}; progan-7860={TOKEN}x; progan-7861={TOKEN}")


def test_beyond_this_machine_nothing_is_shown_without_the_token(folder):
    app = open_app(folder, "0.0.0.0")[1]
    home = "http://192.168.1.7:7860"
    stranger = visit(app, home, token=False)
    for address in (
        "/",
        "/main.js",
        "/progan.json",
        PICTURE.format(run="plain"),
        "/api/grid?run=plain&name=fakes-000000001-8x8.png",
    ):
        answer = stranger.get(address)
        assert answer.status_code == 403, address
        assert "token" in answer.json()["error"]
    friend = visit(app, home)
    assert friend.get("/progan.json").status_code == 200
    assert friend.get("/", headers={"host": socket.gethostname()}).status_code in (200, 403)  # cookies are of a host
    assert friend.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),  # a link
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 200),
    ],
)
def test_other_sites_pages_make_it_do_nothing(app, headers, code):
    assert visit(app, token=False).get("/progan.json", headers=headers).status_code == code


def test_answers_forbid_what_the_page_does_not_need(client):
    for address in ("/", "/main.js", "/progan.json", "/nowhere", "/api/grid?run=plain&name=x"):
        headers = client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
    page = client.get("/api/page/compare?name=comparison")
    assert "which is better" in page.text
    # What lies in a folder may have scripts, but they have no rights here.
    assert "sandbox allow-scripts;" in page.headers["content-security-policy"]
    assert "connect-src" not in page.headers["content-security-policy"]


# A snapshot alone


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A snapshot that lies where it has no run, beside another file."""
    place = tmp_path_factory.mktemp("alone")
    (place / "secret.safetensors").write_text(SECRET)
    small(kind="class", names=CLASSES).save(place / "odd <b> name.safetensors")
    return place / "odd <b> name.safetensors"


def test_a_snapshot_alone_makes_pictures(file):
    client = visit(open_app(file)[1])
    facts = client.get("/progan.json").json()
    assert (facts["title"], facts["data"]) == ("odd <b> name", "drawn <things>")
    assert (facts["snapshot"], facts["labels"]["names"]) == (load(file).digest, list(CLASSES))
    assert [(model["resolution"], model["kimg"]) for model in facts["models"]] == [(16, 16)]
    known = facts["server"]
    assert (known["run"], known["runs"], known["training"], known["data"]) == ("odd <b> name", [], False, False)
    query = {"run": known["run"], "model": facts["models"][0]["file"], "seed": "7", "label": CLASSES[1]}
    got = pixels_of(client.get("/api/picture", params=query))
    assert np.array_equal(got, as_shown(next(Drawing(load(file), [7], [CLASSES[1]]).pixels())[0]))
    assert visit(open_app(file)[1]).get("/progan.json?run=odd").status_code == 200  # an old link


@pytest.mark.parametrize(
    "address",
    [
        "/api/picture?model=secret&seed=1",
        "/api/picture?model=../alone/secret&seed=1",
        "/api/training?run=odd <b> name",
        "/api/grid?run=&name=fakes-000000001-8x8.png",
        "/api/page/data?run=",
        "/api/page/report?run=",
        "/api/page/compare?name=",
    ],
)
def test_beside_a_snapshot_there_is_nothing(file, address):
    answer = visit(open_app(file)[1]).get(address)
    assert answer.status_code == 404
    assert SECRET not in answer.text


def test_a_picture_is_searched_by_a_snapshot_alone(file, monkeypatch):
    monkeypatch.setattr(pictures, "STEPS", 5)
    monkeypatch.setattr(finding, "RANDOM", 16)
    client = visit(open_app(file)[1], origin=HOME)
    content = png(np.full((16, 16, 3), 100, np.uint8))
    said = [json.loads(line) for line in client.post("/api/find?model=odd <b> name", content=content).text.splitlines()]
    assert "the snapshot does not hold it" in said[0]["note"]
    assert said[-1]["near"] == []


@pytest.mark.parametrize("content", ["words", "cut", "state", "gone", "snapshot of nothing"])
def test_what_is_no_snapshot_gets_one_line(content, file, tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    if content == "cut":
        path.write_bytes(file.read_bytes()[:-100])
    elif content == "state":
        path.write_bytes(b"".join(tensorfile.to_bytes({"G": torch.zeros(3)}, {"format": "progan state"})))
    elif content == "snapshot of nothing":
        header = json.dumps({"__metadata__": {"info": "[]"}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
    elif content == "words":
        path.write_text("words that are no tensors")
    assert main(["app", str(path), "--no-open"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert ("does not exist" if content == "gone" else "is not a snapshot, or is damaged") in said


# What may be read


@posix
@pytest.mark.parametrize(
    "address",
    [
        "/../secret/file.png",
        "/%2e%2e/secret/file.png",
        "/..%2f..%2fsecret%2ffile.png",
        "/server/../../runs.py",
        "/server/%2e%2e/%2e%2e/server.py",
        "//etc/passwd",
        "/%00",
        "/index.html%00.js",
        "/config.json",
        "/api/grid?run=plain&name=fakes-000000001-8x8.png",  # a link
        "/api/grid?run=class&name=file.png",
        "/api/grid?run=class&name=fakes-000000001-8x8.png",  # in a folder that is a link
        "/api/grid?run=plain&name=../../../secret/file.png",
        "/api/grid?run=plain&name=..%2f..%2f..%2fsecret%2ffile.png",
        "/api/grid?run=plain&name=fakes-000000001-8x8.png%00",
        "/api/grid?run=plain&name=fakes-000000001-8x8.png%0a",
        "/api/grid?run=../secret/run&name=fakes-000000001-8x8.png",
        "/api/grid?run=linked&name=fakes-000000001-8x8.png",
        "/api/grid?run=/etc&name=fakes-000000001-8x8.png",
        "/api/grid?run=plain/../plain&name=fakes-000000001-8x8.png",
        "/api/grid?run=plain%00&name=fakes-000000001-8x8.png",
        "/api/picture?run=linked&model=generator-000016000-16x16&seed=1",
        "/api/picture?run=linked.json&model=generator-000016000-16x16&seed=1",
        "/api/picture?run=plain&model=generator-000000001-8x8&seed=1",  # a link
        "/api/picture?run=plain&model=../../../secret/run/snapshots/generator-000016000-16x16&seed=1",
        "/api/picture?run=plain&model=generator-000016000-16x16.safetensors&seed=1",
        "/api/picture?run=plain&model=generator-000016000-16x8&seed=1",
        "/api/picture?run=plain&model=&seed=1",
        "/api/page/report?run=plain",  # a link
        "/api/page/compare?name=../secret",
        "/api/page/compare?name=",
        "/api/training?run=../secret/run",
        "/progan.json?run=../secret/run",
        "/progan.json?run=linked",
    ],
)
def test_nothing_outside_the_runs_is_read(client, address):
    answer = client.get(address)
    assert answer.status_code in (400, 403, 404), answer.status_code
    assert SECRET not in answer.text
    assert "root:" not in answer.text
    assert list(answer.json()) == ["error"]


@posix
def test_links_and_strangers_are_no_runs(client):
    known = {run["name"] for run in client.get("/progan.json").json()["server"]["runs"]}
    assert not known & {"linked", "linked.json"}
    assert "caf\\xe9/run" in known
    assert pixels_of(client.get(PICTURE.format(run=r"caf\xe9/run"))).shape == (16, 16, 3)


def test_a_run_that_cannot_be_read_is_named(folder, tmp_path, capsys):
    """It is not merely missing; other programs' files of that name are nobody's business."""
    shutil.copytree(folder / "plain", tmp_path / "good", symlinks=True)
    written = {
        "cut": (folder / "plain" / "config.json").read_text()[:100],
        "new": json.dumps({"format": "progan run", "version": 99}),
        "odd": json.dumps({"format": "progan run", "version": 2, "config": 7, "dataset": {}}),
        "other": json.dumps({"model_type": "bert"}),
        "list": "[1, 2]",
        "deep": "[" * 100_000,
    }
    for name, content in written.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    known = visit(open_app(tmp_path)[1]).get("/progan.json").json()["server"]
    assert [run["name"] for run in known["runs"]] == ["good"]
    assert [Path(line.split(" ")[0]).parent.name for line in known["unread"]] == ["cut", "new", "odd"]
    assert "has format version 99" in known["unread"][1]
    assert all(line.endswith(".") for line in known["unread"])
    capsys.readouterr()
    for name in ("cut", "new", "odd"):
        assert main(["app", str(tmp_path / name), "--no-open"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(tmp_path / name) in said


def test_what_did_not_change_is_read_once(folder, tmp_path, monkeypatch):
    """And those who ask at the same time wait for one walk."""
    for name in ("a", "b"):
        shutil.copytree(folder / "class", tmp_path / name, symlinks=True)
    read, walks, original = [], [], Shelf._walk
    monkeypatch.setattr(RunFolder, "read", lambda self, read_it=RunFolder.read: read.append(self) or read_it(self))
    monkeypatch.setattr(Shelf, "_walk", lambda self: walks.append(time.sleep(0.1)) or original(self))
    shelf = Shelf(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert len({id(found) for found in pool.map(lambda _: shelf.contents(), range(8))}) == 1
    assert (len(walks), len(read)) == (1, 2)
    shelf._walked = -math.inf
    assert list(shelf.contents().runs) == ["a", "b"] or list(shelf.contents().runs) == ["b", "a"]
    assert (len(walks), len(read)) == (2, 2)
    (tmp_path / "a" / "config.json").write_text("cut")
    shelf._walked = -math.inf
    assert list(shelf.contents().runs) == ["b"]
    assert len(read) == 3


def test_odd_names_are_names(client):
    answer = client.get("/api/picture", params={"run": "odd <b> & 'n\"ame'", "model": "generator-000016000-16x16"})
    assert pixels_of(answer).shape == (16, 16, 3)


@pytest.mark.parametrize(
    "query",
    [
        *(f"seed={seed}" for seed in ("-1", "1.5", "1e3", "x", "9" * 20, str(2**63), "%D9%A3", "1" * 4000, "0x1")),
        *(f"seed=1&to={seed}" for seed in ("-1", "x")),
        *(f"seed=1&to=2&t={t}" for t in ("-1", "1.01", "nan", "inf", "1e400", "1_0", "x")),
        *(f"seed=1&truncation={psi}" for psi in ("-0.1", "2.1", "nan", "1e9", "9" * 300)),
        *(f"seed=1&row={row}" for row in ("-1", "1.5", "1024", "nan")),
        "seed=1&label=unknown",
        "seed=1&toLabel=unknown",
        "seed=1&label=" + "x" * 3000,
        "seed=1&run=" + "x" * 2000,
    ],
)
def test_numbers_that_cannot_be_are_refused(client, query):
    answer = client.get(
        f"/api/picture?model=generator-000016000-16x16&{'' if 'run=' in query else 'run=class&'}{query}"
    )
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]


# How much


def test_addresses_and_bodies_have_a_limit(client):
    assert client.get("/?" + "x" * 9000).status_code == 414
    address, origin = "/api/find?run=plain&model=generator-000016000-16x16", {"origin": HOME}
    large = {**origin, "content-length": str(guard.LARGEST_BODY + 1)}
    assert client.post(address, content=b"x", headers=large).status_code == 413
    assert client.post(address, content=b"x", headers={**origin, "content-length": "9" * 5000}).status_code == 413

    def pieces():  # without a length
        for _ in range(21):
            yield bytes(2**20)

    assert client.post(address, content=pieces(), headers=origin).status_code == 413


def test_too_many_are_told_to_come_again(folder, monkeypatch):
    desk, app = open_app(folder)
    monkeypatch.setattr(pictures, "MOST_WAITING", 2)
    begun, goes_on = threading.Event(), threading.Event()
    desk.studio.do(lambda: (begun.set(), goes_on.wait()))
    assert begun.wait(120)
    waiting = [desk.studio.do(lambda: None) for _ in range(2)]
    answer = visit(app).get(PICTURE.format(run="plain"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    goes_on.set()
    wait(waiting, 120)
    assert visit(app).get(PICTURE.format(run="plain")).status_code == 200
    desk.streams = server.MOST_STREAMS
    assert visit(app).get("/api/training?run=plain").status_code == 503


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_where_the_memory_is_too_small_the_page_says_what_to_do(error, folder, monkeypatch):
    def fail(*given):
        raise error

    monkeypatch.setattr(Studio, "_pixels", fail)
    answer = visit(open_app(folder)[1]).get(PICTURE.format(run="plain"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "--device cpu" in answer.json()["error"]


@pytest.mark.parametrize("gone", ["picture", "model", "report", "compare"])
def test_what_is_deleted_while_it_is_asked_for_is_said_to_be_gone(gone, folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "class", tmp_path / "run", symlinks=True)
    shutil.copytree(folder / "comparison", tmp_path / "comparison")
    (tmp_path / "run" / "report.html").write_text("a report")
    client = visit(open_app(tmp_path)[1])
    picture, page = PICTURE.format(run="run"), f"/api/page/{gone}?run=run&name=comparison"
    assert client.get(page if "picture" not in gone and gone != "model" else picture).status_code == 200

    def before(owner, name):
        """Deletes all before a step that follows the look-up."""
        original = getattr(owner, name)

        def call(*given, **named):
            for place in ("run", "comparison"):
                shutil.rmtree(tmp_path / place, ignore_errors=True)
            return original(*given, **named)

        monkeypatch.setattr(owner, name, call)

    before(*{"picture": (Studio, "picture"), "model": (server, "_kept")}.get(gone, (Path, "read_text")))
    answer = client.get(f"{picture}1" if gone in ("picture", "model") else page)
    assert (answer.status_code, answer.json()["error"]) == (404, "that is no longer here: reload the page")


def test_what_was_deleted_since_the_folder_was_looked_at_is_not_told_of(folder, tmp_path, monkeypatch):
    """Another walk comes between the two looks of a request; and a snapshot goes while it is read."""
    for name in ("a", "b"):
        shutil.copytree(folder / "class", tmp_path / name, symlinks=True)
    shelf = Shelf(tmp_path)
    contents = iter([runs.Contents({"a": tmp_path / "a"}), *[runs.Contents({"b": tmp_path / "b"})] * 9])
    monkeypatch.setattr(shelf, "contents", lambda: next(contents))
    first = sorted((tmp_path / "b" / "snapshots").iterdir())[0]
    monkeypatch.setattr(
        runs, "_digest", lambda path, version: first.unlink(missing_ok=True) or str(path.stat().st_size)
    )
    found = runs.facts(shelf, "", True, True)
    assert found["title"] == "b"
    assert [model["resolution"] for model in found["models"]] == [16]


def test_pictures_go_first_between_the_steps_of_something_long():
    studio, order, begun, waiting = Studio("cpu"), [], threading.Event(), threading.Event()

    def long():
        begun.set()
        waiting.wait(120)
        for step in range(3):
            order.append(step)
            studio.let_others_go_first()

    first = studio.do(long, long=True)
    assert begun.wait(120)
    others = [studio.do(lambda: order.append("picture")), studio.do(lambda: order.append("film"), long=True)]
    waiting.set()
    wait([first, *others], 120)
    assert order == [0, "picture", 1, 2, "film"]
    with pytest.raises(ZeroDivisionError):
        studio.do(lambda: 1 / 0).result(10)


def test_only_some_long_things_wait(monkeypatch):
    studio, goes_on = Studio("cpu"), threading.Event()
    studio.do(goes_on.wait)
    for _ in range(pictures.MOST_LONG):
        studio.do(lambda: None, long=True)
    with pytest.raises(BusyError):
        studio.do(lambda: None, long=True)
    studio.do(lambda: None)
    goes_on.set()


# A training


def test_a_training_is_followed_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_LOOK", 0.0)
    folder = write_run(tmp_path / "run")

    def line(nimg):
        return json.dumps({"cur_nimg": nimg, "resolution": 8, "D/fake": float("nan")}) + "\n"

    watch = Watch(folder)
    folder.stats.write_text(line(8) + 'no json\n[1]\n{"cur_nimg": "8"}\n' + line(16)[:9])
    watch.look()
    assert [each["cur_nimg"] for each in watch.lines] == [8]
    assert watch.lines[0]["D/fake"] is None  # as JSON has it
    first = watch.lines[0]
    with folder.stats.open("a") as file:
        file.write(line(16)[9:] + line(24))
    watch.look()
    assert [each["cur_nimg"] for each in watch.lines] == [8, 16, 24]
    assert watch.lines[0] is first
    folder.stats.unlink()
    folder.stats.write_text(line(8))  # a continued run writes it anew
    watch.look()
    assert [each["cur_nimg"] for each in watch.lines] == [8]
    assert watch.lines[0] is not first
    assert (watch.live, watch.asked) == (False, False)


def test_many_lines_take_no_more_memory_than_some(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "MOST_LINES", 5)
    folder = write_run(tmp_path / "run")
    folder.stats.write_text("".join(json.dumps({"cur_nimg": n, "resolution": 8}) + "\n" for n in range(100)))
    watch = Watch(folder)
    watch.look()
    assert [each["cur_nimg"] for each in watch.lines] == list(range(95, 100))


@posix
def test_a_training_that_goes_on_is_asked_to_stop(tmp_path):
    folder = write_run(tmp_path / "run")
    client = visit(open_app(tmp_path)[1], origin=HOME)
    assert client.post("/api/stop?run=run").json() == {"error": "nothing is trained there now"}
    assert not folder.stop.exists()
    with folder.held(silent):
        assert runs.live(folder)
        assert client.post("/api/stop?run=run").json() == {"asked": True}
        assert folder.stop.read_bytes() == b""
        folder.stop.unlink()
        folder.stop.symlink_to(tmp_path / "elsewhere")
        assert client.post("/api/stop?run=run").status_code == 400
        assert not (tmp_path / "elsewhere").exists()
    for number in (999999999, os.getpid()):  # of one that was killed, whose number another process may have
        (folder.path / ".lock").write_text(f"process {number} on {socket.gethostname()}")
        assert not runs.live(folder), number
        with pytest.raises(RunError):
            runs.ask_to_stop(folder)


def test_of_many_lines_some_are_sent_the_last_among_them(monkeypatch):
    monkeypatch.setattr(server, "MOST_SENT", 4)

    def sent(*lines):
        return [line["cur_nimg"] for line in server._thinned([{"cur_nimg": i, **line} for i, line in enumerate(lines)])]

    assert sent() == []
    assert sent(*[{}] * 4) == [0, 1, 2, 3]
    assert sent(*[{}] * 9) == [2, 5, 8]
    # Measurements and notices are rare, and are not lost where others are left out.
    swd, said = {"metrics/G_ema/swd": 1.0}, {"notices": "it diverged"}
    assert sent(*[swd, {}] * 4) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert sent({}, said, {}, {}, swd, {}, {}, {}, {}) == [0, 1, 3, 4, 6, 8]
    assert sent(*[swd] * 9) == [2, 5, 8]


def events(client, address):
    """Kinds of events and what they hold, of a stream that ends."""
    found = [
        part.partition("\ndata: ") for part in client.get(address).text.split("\n\n") if part.startswith("event: ")
    ]
    return [(kind.removeprefix("event: "), json.loads(data)) for kind, _, data in found]


def test_those_who_follow_a_training_keep_nobody_waiting(tmp_path, monkeypatch):
    """What is sent is made in other threads than the one that answers all; the run is moved away at the end."""
    monkeypatch.setattr(runs, "_LOOK", 0.0)
    monkeypatch.setattr(server, "_EVERY", 0.0)
    folder, moments = write_run(tmp_path / "run"), iter((1, 2, 2))
    desk, app = open_app(tmp_path)
    inside = []

    def watch(given, look=desk.watch):
        lines = ({"cur_nimg": n, "resolution": 8} for n in range(next(moments, 0)))
        folder.stats.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if not folder.stats.read_text():
            shutil.rmtree(folder.path)
        return look(given)

    def state(*given, state=server.state):
        with pytest.raises(RuntimeError):  # there is no loop in this thread
            asyncio.get_running_loop()
        inside.append(threading.get_ident())
        return state(*given)

    monkeypatch.setattr(desk, "watch", watch)
    monkeypatch.setattr(server, "state", state)
    told = events(visit(app), "/api/training?run=run")
    assert [kind for kind, _ in told] == ["all", "state", "more", "state", "gone"]
    assert [[line["cur_nimg"] for line in lines] for kind, lines in told if kind in ("all", "more")] == [[0], [1]]
    assert len(inside) == 3
    assert desk.streams == 0


def test_what_is_followed_is_kept_and_the_time_left_found_once_for_all(folder, tmp_path, monkeypatch):
    """However many runs there are: a look at one makes nobody read another anew."""
    monkeypatch.setattr(runs, "_LOOK", 3600.0)
    folders = [RunFolder(shutil.copytree(folder / "class", tmp_path / str(i), symlinks=True)) for i in range(9)]
    desk, asked = server.Desk(Shelf(tmp_path), AppConfig()), []
    monkeypatch.setattr(desk, "seconds_left", lambda watch: asked.append(watch.folder.path.name) or 5.0)
    first = [desk.watch(folder) for folder in folders]
    assert [server.state(watch)["left"] for watch in first] == [5.0] * 9
    assert all(again is watch for again, watch in zip(map(desk.watch, folders), first, strict=True))
    assert asked == [str(i) for i in range(9)]
    del first
    gc.collect()
    assert not desk._watched


def test_time_left_is_that_of_the_console(tmp_path):
    """Later resolutions are scaled as the one that was measured."""
    folder = write_run(tmp_path / "run")
    desk = server.Desk(Shelf(tmp_path), AppConfig())
    watch = Watch(folder)
    folder.stats.write_text(json.dumps({"cur_nimg": 1000, "resolution": 8, "elapsed": 1000.0}) + "\n")
    watch.look()
    watch.live = True
    assert desk.seconds_left(watch) is None
    desk.studio.do(lambda: None, long=True).result(60)
    # Lines that make no sense do no harm.
    watch.lines += [{"cur_nimg": 1001, "resolution": 512, "elapsed": 9e9}, {"cur_nimg": 1000, "resolution": 8}]
    left = desk.seconds_left(watch)
    rest = sum(n for resolution, _, start, end in watch.spans if resolution == 8 for n in [end - max(start, 1000)])
    assert left > rest / 10
    write_whole(folder.stats, (json.dumps({"cur_nimg": 1000, "resolution": 8, "elapsed": 500.0}) + "\n").encode())
    watch._read = -1e9
    watch.look()
    watch.live = True
    assert desk.seconds_left(watch) == pytest.approx(left / 2, rel=0.1)


# A search, and pages made elsewhere


def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_a_picture_is_searched_and_nothing_of_it_is_kept(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "STEPS", 10)
    monkeypatch.setattr(finding, "RANDOM", 16)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client = visit(open_app(folder)[1], origin=HOME)
    target = np.full((32, 24, 3), 100, np.uint8)
    answer = client.post("/api/find?run=class&model=generator-000016000-16x16&label=one", content=png(target))
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert next(iter(fact["side"] for fact in said if "target" in fact)) == 16
    shown = np.frombuffer(base64.b64decode(next(fact["target"] for fact in said if "target" in fact)), np.uint8)
    assert (shown == 100).all()
    assert [fact["step"] for fact in said if "best" in fact] == [0, 5, 10]
    last = said[-1]
    assert last["near"] == []  # the images are gone
    assert last["latent"]["labels"] == [1, 0, 0]
    assert last["latent"]["distance"] <= last["latent"]["random_distance"]
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # PyTorch may have made a folder for its compiler


def bomb():
    """A PNG of a few hundred bytes that says it has 10^10 pixels."""
    content = bytearray(png(np.zeros((1, 1, 3), np.uint8)))
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return bytes(content)


@pytest.mark.parametrize("content", [b"", b"no picture", bomb(), b"PK\x03\x04" + bytes(100), b"\x93NUMPY" + bytes(100)])
def test_what_is_no_picture_is_said_to_be_none(folder, content):
    client = visit(open_app(folder)[1], origin=HOME)
    answer = client.post("/api/find?run=plain&model=generator-000016000-16x16", content=content)
    error = json.loads(answer.text.splitlines()[-1])["error"]
    assert "picture" in error
    assert "\n" not in error


def test_training_images_are_shown_only_where_that_is_wanted(folder, tmp_path):
    shutil.copytree(folder / "comparison", tmp_path / "comparison")
    run = write_run(tmp_path / "run")
    run.samples.mkdir()
    (run.samples / "reals.png").write_text("real")
    (run.path / "report.html").write_text("<!doctype html><p>Real images.")
    client, shown = visit(open_app(tmp_path, reals=False)[1]), visit(open_app(tmp_path)[1])
    for address in ("data?run=run", "report?run=run", "compare?name=comparison"):
        answer = client.get(f"/api/page/{address}")
        assert answer.status_code == 400, address
        assert "--no-reals" in answer.json()["error"]
    for each in (client, shown):
        assert each.get("/api/grid?run=run&name=reals.png").status_code == 404
    facts = client.get("/progan.json?run=run").json()["server"]
    assert (facts["data"], facts["comparisons"]) == (False, None)
    facts = shown.get("/progan.json?run=run").json()["server"]
    assert (facts["data"], facts["comparisons"]) == (True, ["comparison"])
    assert "Real images." in shown.get("/api/page/report?run=run").text
    assert "no longer in gone" in shown.get("/api/page/data?run=run").json()["error"]


def test_pages_of_data_are_waited_for_by_nobody_else(tmp_path, monkeypatch):
    """Looking at all images takes minutes, in which the threads are for others. All who ask get the same page."""
    goes_on, made, asking = threading.Event(), [], []
    find = Shelf.run
    monkeypatch.setattr(Shelf, "run", lambda self, name: asking.append(name) or find(self, name))
    monkeypatch.setattr(desk_module, "dataset_page", lambda folder: (made.append(folder), goes_on.wait(120), "page")[2])
    write_run(tmp_path / "run")
    with visit(open_app(tmp_path)[1]) as client, ThreadPoolExecutor(50) as pool:  # `with`: all in one loop
        asked = [pool.submit(client.get, "/api/page/data?run=run") for _ in range(45)]
        try:
            until(lambda: len(asking) >= 40)
            assert pool.submit(client.get, "/main.js").result(60).status_code == 200
        finally:
            goes_on.set()
        assert {future.result(60).text for future in asked} == {"page"}
    assert len(made) == 1


def test_a_page_of_data_that_failed_is_made_again_and_of_many_runs_only_some_are(tmp_path, monkeypatch):
    goes_on, errors = threading.Event(), [DatasetError("gone")]

    def make(folder):
        if errors:
            raise errors.pop()
        goes_on.wait(120)
        return folder.path.name

    monkeypatch.setattr(desk_module, "dataset_page", make)
    folders = [write_run(tmp_path / name) for name in ("a", "b", "c")]
    desk, _ = open_app(tmp_path)
    with pytest.raises(DatasetError):
        desk.data_page(folders[0]).result(60)
    pages = [desk.data_page(folder) for folder in folders[:2]]
    with pytest.raises(BusyError):
        desk.data_page(folders[2])
    assert desk.data_page(folders[0]) is pages[0]
    goes_on.set()
    assert [page.result(60) for page in pages] == ["a", "b"]
    assert desk.data_page(folders[2]).result(60) == "c"
    assert len(desk._data) == 2


def test_the_page_of_data_is_that_of_the_run_that_is_there(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(desk_module, "dataset_page", lambda folder: made.append(folder) or f"page {len(made)}")
    write_run(tmp_path / "run")
    client = visit(open_app(tmp_path)[1])
    assert [client.get("/api/page/data?run=run").text for _ in range(2)] == ["page 1", "page 1"]
    shutil.rmtree(tmp_path / "run")
    write_run(tmp_path / "run")
    assert client.get("/api/page/data?run=run").text == "page 2"


# The command


def test_a_port_that_is_taken_is_not_the_end():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with server._listen(AppConfig(port=port)) as found:
            assert found.getsockname()[1] > port
    with pytest.raises(ConfigError, match=r"cannot listen at 203\.0\.113\.9"):
        server._listen(AppConfig(host="203.0.113.9", port=0))


@posix
def test_the_token_is_on_no_command_line(folder, monkeypatch, tmp_path):
    """Every user of a machine sees those of its programs: the browser is led to the page by a private file."""
    uvicorn = pytest.importorskip("uvicorn")
    opened, shown = threading.Event(), []

    def open_in_browser(address):
        file = Path(unquote(urlsplit(address).path))
        shown.append((address, file.read_text(), file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777, file))
        opened.set()

    def serve(self, sockets):
        assert opened.wait(60)
        for each in sockets:
            each.close()

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "nice", lambda by: 0)
    monkeypatch.setattr("webbrowser.open", open_in_browser)
    monkeypatch.setattr(uvicorn.Server, "run", serve)
    addresses = []
    server.serve(folder, AppConfig(port=0, token=TOKEN), silent, addresses.append)
    [(address, content, *modes, file)] = shown
    assert address.startswith("file://")
    assert TOKEN not in address
    assert f"url={addresses[0]}" in content
    assert modes == [0o600, 0o700]
    until(lambda: not file.parent.exists())


def test_what_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[app\]'"):
        server.serve(folder, AppConfig(), silent)


@pytest.mark.parametrize("device", ["bogus", "gpu"])
def test_a_device_that_is_not_there_is_refused_at_once(device, folder, monkeypatch, capsys):
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr(os, "nice", lambda by: 0, raising=False)  # of the process that tests
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: [socket.close() for socket in sockets])
    assert main(["app", str(folder), "--no-open", "--port", "0", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["app", str(folder), "--no-open", "--port", "0", "--device", device]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--device {device}" in said


@pytest.mark.parametrize("options", [{"port": -1}, {"port": 65_536}, {"token": "short"}, {"token": "x" * 20 + ";"}])
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError):
        AppConfig(**options)


def test_a_name_is_looked_up_and_never_a_path(folder):
    shelf = Shelf(folder.resolve())
    name, newest = shelf.run("")
    assert shelf.contents().runs[name] == newest.path
    for name in ("..", ".", "/", "plain/", "./plain", "runs/plain"):
        with pytest.raises(Missing):
            shelf.run(name)
    assert small().resolution == 16  # the snapshot that the runs here have
    assert shelf.run("plain") == ("plain", RunFolder(folder.resolve() / "plain"))
