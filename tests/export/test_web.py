"""The page in Debian's Chromium as on a phone, without a network after the first visit: its pixels are those of sample.

npm fetches onnxruntime-web and axe-core once (or they are skipped, and say so).
"""

import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generators import ATTRIBUTES, small, write_run
from progan import randomness
from progan.commands import WebConfig
from progan.errors import ExportError
from progan.export import web
from progan.export.card import check_folder
from progan.export.source import open_source
from progan.images import to_pixels
from progan.progress import silent
from progan.sampling import load
from progan.sampling.interpolation import between, show, slerp
from progan.sampling.pictures import Drawing

playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=30_000)  # on a machine with other work
pytest.importorskip("onnx")
pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")
PATH = "/some/where/app/"
"""Sub-path that the page lies under."""
CLASSES = ("one", "two <b>", "drei ü")


class Host:
    """A static host on this machine that can be switched off, and that lists what it was asked for."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        host = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                host.asked.append(self.path)

        handler = functools.partial(Handler, directory=root)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def exported(tmp: Path, source: Path, **options: object) -> Path:
    """Root of a host with the page below PATH."""
    config = WebConfig(**options)  # type: ignore[arg-type]
    out = tmp / PATH.strip("/")
    check_folder(out)
    web.export(open_source(source, config), out, config, silent)
    return tmp


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def pages(tmp_path_factory, run):
    """Kind of page -> its host's root and what it was made of."""
    try:
        web.runtime_files(WebConfig(), silent)
    except ExportError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("snapshots")
    small(kind="attributes", names=ATTRIBUTES).save(folder / "attributes.safetensors")
    small(kind="class", names=CLASSES, channels=1).save(folder / "class.safetensors")

    @functools.cache
    def page(kind):
        source = folder / f"{kind}.safetensors" if kind in ("class", "attributes") else run.path
        options = {"fp32": {"weights": "fp32"}, "webgpu": {"webgpu": True, "resolutions": "8"}}.get(kind, {})
        return exported(tmp_path_factory.mktemp(kind), source, **options), source

    return page


class Visit:
    """A page that is open on a phone; the test fails for what went wrong in it, or for a request to another place."""

    def __init__(self, browser, host, hash_="", **settings):
        self.context = browser.new_context(**{**browser.phone, **settings})
        self.wrong: list[str] = []
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda line: self.wrong.append(line.text) if line.type == "error" else None)
        self.page.on("request", lambda request: self._look(request.url, host.address))
        self.host, self.address = host, f"{host.address}{PATH}"
        self.page.goto(self.address + hash_)

    def _look(self, url, address):
        if not url.startswith((address, "blob:")):
            self.wrong.append(f"asked {url}")

    def drawn(self, seconds=60):
        self.page.wait_for_selector("#stage[data-drawn]", timeout=1000 * seconds)
        return self

    def whole(self):
        """Waits for all pictures that the address asks for."""
        hash_ = self.page.evaluate("location.hash")
        self.page.wait_for_selector(f"#stage[data-drawn='{hash_}']", timeout=60_000)

    def ready(self):
        playwright.expect(self.page.locator("#offline")).to_contain_text("Ready", timeout=120_000)
        return self

    def wish(self, hash_):
        """Shows what a link asks for; its pictures as uint8 [N, R, R, 3]."""
        self.page.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
        self.page.evaluate("hash => { location.hash = hash; }", hash_)
        return self.drawn().pictures()

    def pictures(self, place="#stage canvas"):
        script = """canvases => canvases.map((canvas) => {
            const {width, height} = canvas;
            return [width, Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data)];
        })"""
        shown = self.page.eval_on_selector_all(place, script)
        return np.stack([np.array(data, np.uint8).reshape(side, side, 4)[..., :3] for side, data in shown])


@pytest.fixture
def visit(browser, pages):
    opened = []

    def open_(kind="run", hash_="", **settings):
        host = Host(pages(kind)[0])
        opened.append((host, Visit(browser, host, hash_, **settings)))
        return opened[-1][1]

    yield open_
    for host, each in opened:
        each.context.close()
        host.stop()


def sampled(source, seeds, labels=(), resolution=None, truncation=1.0):
    """What `progan sample` makes, uint8 [N, R, R, 3]."""
    pixels = (
        torch.cat(list(Drawing(load(source, resolution), seeds, labels, truncation).pixels()))
        .permute(0, 2, 3, 1)
        .numpy()
    )
    return np.repeat(pixels, 3, 3) if pixels.shape[3] == 1 else pixels


def apart(a, b):
    assert a.shape == b.shape
    return np.abs(a.astype(int) - b.astype(int)).max()


@pytest.mark.parametrize(("kind", "steps"), [("run", 2), ("fp32", 1)])
def test_without_a_network_pixels_are_those_of_sample(visit, run, kind, steps):
    """At every resolution that is offered, after one visit, for seeds of up to 63 bits."""
    page = visit(kind).drawn().ready()
    page.host.stop()
    page.context.set_offline(True)
    page.page.reload()
    page.drawn()
    offered = page.page.eval_on_selector_all("#sizes input", "radios => radios.map((radio) => Number(radio.value))")
    assert offered == [8, 16]
    for resolution in offered:
        for seed, truncation in ((7, 1.0), (2**63 - 3, 1.0), (123_456, 0.35)):
            got = page.wish(f"#seed={seed}&resolution={resolution}&truncation={truncation}")
            assert apart(got, sampled(run.path, [seed], (), resolution, truncation)) <= steps
        got = page.wish(f"#seed=20&count=9&resolution={resolution}")
        assert apart(got, sampled(run.path, range(20, 29), (), resolution)) <= steps
        print(f"{kind} {resolution}x{resolution}: {page.page.text_content('#caption')}")
    assert page.wrong == []


@pytest.mark.parametrize("label", [*CLASSES, ""])
def test_a_class_is_that_of_sample(visit, pages, label):
    page, source = visit("class").drawn(), pages("class")[1]
    wanted = [label] * 4 if label else [CLASSES[seed % 3] for seed in range(5, 9)]
    if label:
        page.page.select_option("#labels select", label)
    words = f"&label={label.replace(' ', '%20').replace('<', '%3C')}" if label else ""
    assert apart(page.wish(f"#seed=5&count=4{words}"), sampled(source, range(5, 9), wanted)) <= 2
    assert page.wrong == []


@pytest.mark.parametrize("label", ["", "hat=cap", "hat=none,smile"])
def test_attributes_are_those_of_sample(visit, pages, label):
    """Rows of the data in turn, as for the seeds of one call."""
    page, source = visit("attributes").drawn(), pages("attributes")[1]
    got = page.wish(f"#seed=1&count=4&label={label.replace('=', '%3D')}")
    assert apart(got, sampled(source, range(1, 5), [label] * 4)) <= 2


def test_attributes_are_chosen_one_by_one(visit, pages):
    page, source = visit("attributes", "#seed=3").drawn(), pages("attributes")[1]
    assert page.page.locator("#labels select").count() == 2
    page.page.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
    page.page.select_option("#labels select >> nth=0", "hat=cap")
    assert apart(page.drawn().pictures(), sampled(source, [3], ["hat=cap"])) <= 2
    assert "label=hat%3Dcap" in page.page.url


def test_by_webgpu_pixels_are_those_of_sample(browser, pages, run):
    """By a graphics processor that SwiftShader computes, for which it takes its time; and back."""
    host = Host(pages("webgpu")[0])
    swiftshader = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    gpu = browser.started.launch(executable_path=CHROMIUM, args=swiftshader)
    gpu.phone = browser.phone
    page = Visit(gpu, host).drawn()
    if not page.page.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
        pytest.skip("this Chromium has no WebGPU")
    assert not any("webgpu" in path for path in host.asked if ".wasm" in path)  # fetched where it is chosen
    for use in (True, False):
        page.page.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
        page.page.evaluate("document.getElementById('gpu').click()")
        page.drawn(300)
        assert page.page.is_checked("#gpu") is use
        for seed, truncation in ((7, 1.0), (123_456, 0.35)):
            got = page.wish(f"#seed={seed}&truncation={truncation}")
            assert apart(got, sampled(run.path, [seed], (), 8, truncation)) <= 2
    assert any("webgpu" in path for path in host.asked if ".wasm" in path)
    assert page.wrong == []
    gpu.close()
    host.stop()


def test_a_morph_lies_on_the_great_circle(visit, run):
    page = visit().drawn()
    got = page.wish("#seed=4&to=9&t=0.25")
    snapshot = load(run.path)
    z = slerp(snapshot.latents([4]), snapshot.latents([9]), 0.25)
    assert apart(got, to_pixels(snapshot.generate(z)).permute(0, 2, 3, 1).numpy()) <= 2
    page.page.click("#tab-morph")
    playwright.expect(page.page.locator("#morph-caption")).to_contain_text("25 %")
    assert apart(page.pictures("#morph-canvas"), got) == 0
    page.page.click("#morph-play")
    playwright.expect(page.page.locator("#morph-play")).to_have_text("Pause")
    page.page.wait_for_timeout(400)
    page.page.click("#morph-play")
    assert float(page.page.input_value("#morph-position")) > 0.25
    assert page.wrong == []


def test_a_morph_goes_from_class_to_class(visit, pages):
    """By its controls, with the seed kept, to the pixels that `progan interpolate` has on that way."""
    page, source = visit("class", "#seed=4").drawn(), pages("class")[1]
    page.page.click("#tab-morph")
    page.page.select_option("#morph-ends select >> nth=0", CLASSES[0])
    page.page.check("#morph-keep")
    page.page.select_option("#morph-ends select >> nth=1", CLASSES[2])
    page.page.fill("#morph-position", "0.5")
    playwright.expect(page.page.locator("#morph-caption")).to_contain_text("50 %")
    snapshot = load(source)
    ends = [(snapshot.latents([4]), snapshot.labels([name])) for name in (CLASSES[0], CLASSES[2])]
    wanted = show(snapshot, list(between(*ends, 3))[1])[0].permute(1, 2, 0).numpy()
    assert apart(page.pictures("#morph-canvas")[0], np.repeat(wanted, 3, 2)) <= 2
    page.page.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
    page.page.click("#morph-open")
    assert apart(page.drawn().pictures()[0], np.repeat(wanted, 3, 2)) <= 2
    assert "toLabel=drei" in page.page.url
    assert page.wrong == []


def test_a_morph_is_saved_as_what_the_browser_can_make(visit, run):
    """A strip, an animation and a recorded video, of the pictures that the page shows, without a server."""
    page = visit("run", "#seed=4&to=9&t=0.125").drawn()
    page.page.click("#tab-morph")
    playwright.expect(page.page.locator("#morph-canvas[data-ready]")).to_be_visible()
    eighth = page.pictures("#morph-canvas")[0]

    def saved(suffix):
        with page.page.expect_download(timeout=120_000) as waited:
            page.page.click(f"#morph-save-{suffix}")
        assert waited.value.suggested_filename == f"morph-4-9-16x16.{suffix}"
        return Path(waited.value.path())

    strip = Image.open(saved("png"))
    assert strip.text["seed"] == "4,9"
    assert apart(np.asarray(strip)[:, 16:32, :3], eighth) == 0
    film = Image.open(saved("webp"))
    film.load()
    assert (film.n_frames, film.size, film.info["duration"], film.info["loop"]) == (88, (256, 256), 50, 0)
    snapshot = load(run.path)
    for frame, t in ((0, 0), (11, 0.25), (44, 1), (77, 0.25)):
        film.seek(frame)
        z = slerp(snapshot.latents([4]), snapshot.latents([9]), t)
        wanted = to_pixels(snapshot.generate(z))[0].permute(1, 2, 0).numpy()
        assert np.abs(np.asarray(film.convert("RGB"))[8::16, 8::16].astype(int) - wanted).mean() < 8
    video = saved("webm")
    assert video.read_bytes()[:4] == b"\x1aE\xdf\xa3"
    if importlib.util.find_spec("av"):
        import av

        with av.open(str(video)) as opened:
            frames = [each.to_ndarray(format="rgb24") for each in opened.decode(video=0)]
        assert len(frames) >= 40  # those that a busy machine did not drop
        z = snapshot.latents([4])
        wanted = to_pixels(snapshot.generate(z))[0].permute(1, 2, 0).numpy()
        assert np.abs(frames[0][8::16, 8::16].astype(int) - wanted).mean() < 20
    assert page.wrong == []


def test_a_link_holds_the_picture(visit, run, browser):
    """Shared links, and the address itself, give the same picture to others; nonsense in one does no harm."""
    page = visit(
        "run", "#seed=77&resolution=8&truncation=0.5", permissions=["clipboard-read", "clipboard-write"]
    ).drawn()
    assert apart(page.pictures(), sampled(run.path, [77], (), 8, 0.5)) <= 2
    page.page.evaluate("delete Navigator.prototype.share")
    page.page.click("#share-link")
    playwright.expect(page.page.locator("#status")).to_have_text("Link copied.")
    link = page.page.evaluate("navigator.clipboard.readText()")
    assert link == page.page.url
    other = Visit(browser, page.host, "#" + link.partition("#")[2])
    assert apart(other.drawn().pictures(), page.pictures()) == 0
    other.context.close()
    bad = "#seed=-5&resolution=9999&truncation=NaN&to=x&label=no&row=-1&count=1e9&model=%3Cscript%3E"
    got = page.wish(bad)
    assert apart(got, sampled(run.path, [0])) <= 2
    assert page.wrong == []


def test_a_link_of_another_model_says_so(visit):
    page = visit("run", "#seed=7&model=0123456789abcdef")
    playwright.expect(page.page.locator("#status")).to_contain_text("another version of the generator")


def test_favourites_are_kept(visit, run):
    page = visit("run", "#seed=5").drawn()
    page.page.click("#keep")
    playwright.expect(page.page.locator("#keep")).to_have_attribute("aria-pressed", "true")
    page.wish("#seed=6&resolution=8")
    page.page.click("#keep")
    page.page.reload()
    page.drawn()
    page.page.click("#tab-favourites")
    playwright.expect(page.page.locator("#kept canvas[data-ready]")).to_have_count(2)
    page.page.click("#kept .picture >> nth=1")
    playwright.expect(page.page.locator("#caption")).to_contain_text("seed 5 ")
    assert apart(page.drawn().pictures(), sampled(run.path, [5])) <= 2
    page.page.click("#tab-favourites")
    page.page.click("#kept .remove >> nth=0")
    playwright.expect(page.page.locator("#kept li")).to_have_count(1)
    page.page.evaluate('localStorage.setItem(Object.keys(localStorage)[0], \'[7, null, {"model": "x"}, {}\')')
    page.page.click("#tab-make")
    page.page.click("#tab-favourites")
    playwright.expect(page.page.locator("#none")).to_be_visible()
    assert page.wrong == []


def test_a_favourite_that_cannot_be_kept_is_not_called_kept(visit):
    """In a private window, or where the browser has no room for the page."""
    page = visit("run", "#seed=5").drawn()
    page.page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    page.page.click("#keep")
    playwright.expect(page.page.locator("#status")).to_contain_text("This browser keeps nothing")
    playwright.expect(page.page.locator("#keep")).to_have_attribute("aria-pressed", "false")
    assert page.wrong == []


def test_a_picture_is_drawn_where_the_address_is_not_to_be_changed(visit):
    """Safari refuses that after a hundred times within 30 seconds, as of a slider that is dragged."""
    page = visit("run", "#seed=5").drawn()
    page.page.evaluate("() => { history.replaceState = () => { throw new DOMException('too often'); }; }")
    page.page.click("#after")
    playwright.expect(page.page.locator("#caption")).to_contain_text("seed 6 ")
    assert page.wrong == []


def test_seeds_that_are_none_are_answered_with_the_range(visit):
    page = visit("run", "#seed=5").drawn()
    page.page.fill("#seed", "9999999999999999999")
    page.page.press("#seed", "Enter")
    playwright.expect(page.page.locator("#status")).to_contain_text(f"from 0 to {2**63 - 1:,}")


def test_saved_pictures_say_where_they_come_from(visit, run):
    """A PNG with the pixels that are shown; the seed is in it, as in those of `progan sample`."""
    page = visit("run", "#seed=11&count=4").drawn()
    with page.page.expect_download() as waited:
        page.page.click("#save")
    assert waited.value.suggested_filename == "seed-11-16x16-4.png"
    content = Path(waited.value.path()).read_bytes()
    Image.open(BytesIO(content)).verify()  # checksums of its chunks
    saved = Image.open(BytesIO(content))
    assert saved.text["seed"] == "11,12,13,14"
    assert saved.text["snapshot"] == load(run.path).digest
    pixels = np.asarray(saved.convert("RGB")).reshape(2, 16, 2, 16, 3).swapaxes(1, 2).reshape(4, 16, 16, 3)
    assert apart(pixels, sampled(run.path, range(11, 15))) <= 2


def slowed(page, milliseconds):
    """The generator is asked so much later; `asked` of the window counts pictures."""
    script = """milliseconds => {
        const plain = Worker.prototype.postMessage;
        window.asked = 0;
        Worker.prototype.postMessage = function (message) {
            if (message.call === "draw") window.asked++;
            setTimeout(() => plain.call(this, message), milliseconds);
        };
    }"""
    page.evaluate(script, milliseconds)


def test_a_picture_that_is_not_there_yet_is_not_saved(visit, run):
    page, downloads = visit("run", "#seed=7").drawn().ready(), []
    page.page.on("download", lambda each: downloads.append(each))
    slowed(page.page, 1500)
    page.page.click("#after")
    page.page.click("#save")
    playwright.expect(page.page.locator("#status")).to_contain_text("not made yet")
    page.whole()
    assert downloads == []
    with page.page.expect_download() as waited:
        page.page.click("#save")
    assert waited.value.suggested_filename == "seed-8-16x16.png"
    saved = Image.open(waited.value.path())
    assert saved.text["seed"] == "8"
    assert apart(np.asarray(saved.convert("RGB"))[None], sampled(run.path, [8])) <= 2
    assert page.wrong == []


def test_a_picture_on_a_way_is_saved_with_both_seeds(visit):
    page = visit("run", "#seed=1&to=9&t=0.5").drawn()
    with page.page.expect_download() as waited:
        page.page.click("#save")
    assert Image.open(waited.value.path()).text["seed"] == "1,9"


def test_what_was_given_up_is_not_computed(visit):
    """A slider that is drawn asks for a picture at a time: those under way, and the last."""
    page = visit("run", "#seed=7").drawn().ready()
    slowed(page.page, 600)
    page.page.evaluate(
        "async () => { const slider = document.getElementById('truncation');"
        "for (let i = 1; i <= 20; i++) { slider.value = String(i / 40); slider.dispatchEvent(new Event('input'));"
        "await new Promise((resolve) => setTimeout(resolve, 5)); } }"
    )
    page.whole()
    assert page.page.evaluate("asked") <= 3


def test_an_address_names_panels_only(visit):
    """Not what every object has."""
    page = visit("run", "#constructor").drawn()
    page.wish("#toString")
    assert page.page.locator("[role=tabpanel]:visible").count() == 1
    assert page.wrong == []


def test_the_keyboard_does_it_all(visit):
    page = visit("run", "#seed=3").drawn()
    page.page.keyboard.press("ArrowRight")
    playwright.expect(page.page.locator("#caption")).to_contain_text("seed 4 ")
    page.page.keyboard.press("f")
    playwright.expect(page.page.locator("#keep")).to_have_attribute("aria-pressed", "true")
    page.page.keyboard.press("n")
    playwright.expect(page.page.locator("#keep")).to_have_attribute("aria-pressed", "false")
    page.page.focus("#tab-make")
    page.page.keyboard.press("ArrowRight")
    playwright.expect(page.page.locator("#tab-morph")).to_be_focused()
    page.page.keyboard.press("End")
    playwright.expect(page.page.locator("#tab-favourites")).to_have_attribute("aria-selected", "true")
    playwright.expect(page.page.locator("#kept li")).to_have_count(1)


def test_it_can_be_installed(browser, pages, tmp_path):
    """As Chromium itself judges, which needs a profile on the disk."""
    host = Host(pages("run")[0])
    profile = browser.started.launch_persistent_context(tmp_path, executable_path=CHROMIUM, args=["--no-sandbox"])
    page = profile.new_page()
    page.goto(host.address + PATH)
    playwright.expect(page.locator("#offline")).to_contain_text("Ready", timeout=120_000)
    session = profile.new_cdp_session(page)
    assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] == []
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert manifest["url"].endswith(f"{PATH}manifest.json")
    profile.close()
    host.stop()


def test_nothing_inline_and_nothing_from_elsewhere(visit):
    page = visit().drawn().ready()
    html = page.page.content()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    assert page.wrong == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """Source of axe-core."""
    if not (npm := shutil.which("npm")):
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-package-lock", "axe-core@4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm could not fetch axe-core: {done.stderr[:200]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_accessible(visit, axe, scheme, width):
    """No finding of axe-core on any panel, in light and dark; nothing wider than the screen."""
    size = {"viewport": {"width": width, "height": 844}, "is_mobile": width < 500, "color_scheme": scheme}
    page = visit("class", "#seed=1&count=4", bypass_csp=True, **size).drawn().ready()
    page.page.click("summary")
    page.page.evaluate(axe)
    for tab in ("make", "morph", "favourites"):
        page.page.click(f"#tab-{tab}")
        page.page.wait_for_timeout(300)
        found = page.page.evaluate("axe.run()")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
        assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_errors_are_sentences(visit, browser, pages, tmp_path):
    """A generator that is cut short, one that is gone, and a browser without WebAssembly."""
    shutil.copytree(pages("run")[0], tmp_path / "root")
    host = Host(tmp_path / "root")
    model = next((tmp_path / "root" / PATH.strip("/")).glob("models/generator-16x16-*.onnx"))
    whole = model.read_bytes()
    model.write_bytes(whole[:-100] + bytes(100))
    page = Visit(browser, host)
    playwright.expect(page.page.locator("#status")).to_contain_text("not what it should be", timeout=120_000)
    model.unlink()
    page.page.click("#again")
    playwright.expect(page.page.locator("#status")).to_contain_text("is not there (404)")
    model.write_bytes(whole)
    page.page.click("#again")
    page.drawn()
    playwright.expect(page.page.locator("#again")).to_be_hidden()
    page.context.close()
    old = browser.new_context(**browser.phone)
    old.add_init_script("delete globalThis.WebAssembly")
    blank = old.new_page()
    blank.goto(f"{host.address}{PATH}")
    playwright.expect(blank.locator("#status")).to_contain_text("too old")
    old.close()
    host.stop()


@pytest.mark.parametrize("without", ["sw.js", "delete Navigator.prototype.serviceWorker"])
def test_without_a_service_worker_it_is_not_called_ready(browser, pages, tmp_path, without):
    """A host that does not serve it, and a browser inside another app, which has none."""
    shutil.copytree(pages("run")[0], tmp_path / "root")
    host, context = Host(tmp_path / "root"), browser.new_context(**browser.phone)
    if without == "sw.js":
        (tmp_path / "root" / PATH.strip("/") / without).unlink()
    else:
        context.add_init_script(without)
    page = context.new_page()
    page.goto(f"{host.address}{PATH}")
    playwright.expect(page.locator("#offline")).to_contain_text("needs a network", timeout=60_000)
    context.close()
    host.stop()


def test_a_new_version_is_offered_and_taken(browser, pages, run, tmp_path):
    """After another export to the same place the page offers it; two pages of one origin leave each other alone."""
    root = tmp_path / "root"
    shutil.copytree(pages("run")[0], root)
    shutil.copytree(root / PATH.strip("/"), root / "other")
    for path in root.rglob("*.js"):  # so old that browsers would keep it for days without asking
        os.utime(path, (1e9, 1e9))
    host = Host(root)
    page = Visit(browser, host).drawn().ready()
    other = page.context.new_page()
    other.goto(f"{host.address}/other/")
    other.wait_for_selector("#stage[data-drawn]")
    playwright.expect(other.locator("#offline")).to_contain_text("Ready", timeout=120_000)
    exported(root, run.path, title="Another title", resolutions="8")
    page.page.reload()
    page.page.click("#update", timeout=120_000)
    playwright.expect(page.page.locator("h1")).to_have_text("Another title", timeout=120_000)
    page.drawn().ready()
    names = page.page.evaluate("caches.keys()")
    assert sum(" page " in name for name in names) == 2
    kept = page.page.evaluate(
        "caches.open(`progan ${location.pathname} files`).then((cache) => cache.keys()).then((all) => all.length)"
    )
    assert kept == 2  # the runtime and one generator: the others are gone
    host.stop()
    page.context.set_offline(True)
    other.reload()
    other.wait_for_selector("#stage[data-drawn]")
    playwright.expect(other.locator("h1")).to_have_text("Pictures like drawn <things>")
    page.context.close()


def node(script, folder):
    """Output of a module of JavaScript that stands beside those of the page."""
    if not (program := shutil.which("node")):
        pytest.skip("node is not installed")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "test.js").write_text(script, encoding="utf-8")
    return subprocess.run([program, "test.js"], cwd=folder, capture_output=True, check=True, timeout=60).stdout


def test_latents_in_javascript_are_those_of_python(tmp_path):
    """Words of Philox to the bit; float32 latents equal but for the last bit of a few."""
    (tmp_path / "latents.js").write_bytes(web.page_files()["latents.js"])
    seeds = [0, 1, 7, 2**32 - 1, 2**32, 123_456_789_012_345, 2**63 - 1, 2**64 - 1]
    script = (
        'import { latent, philox } from "./latents.js";\n'
        f"const seeds = {json.dumps([str(seed) for seed in seeds])};\n"
        "for (const seed of seeds) process.stdout.write(new Uint8Array(latent(seed, 511).buffer));\n"
        "process.stdout.write(new Uint8Array(Uint32Array.from(philox(4294967295, 1, 4294967295)).buffer));\n"
    )
    out = node(script, tmp_path)
    got = np.frombuffer(out[:-16], np.float32).reshape(len(seeds), 511)
    wanted = randomness.latents(seeds, 511)
    assert np.abs(got.view(np.int32) - wanted.view(np.int32)).max() <= 1
    assert (got != wanted).mean() < 1e-3
    key = np.uint64(1 + (0xFFFFFFFF << 32))
    assert np.frombuffer(out[-16:], np.uint32).tolist() == randomness.philox(np.uint64(0xFFFFFFFF), key).tolist()


def test_text_in_a_png_is_of_any_alphabet(tmp_path):
    for name, content in web.page_files().items():
        (tmp_path / name).write_bytes(content)
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    fields = {"seed": "7", "Copyright": "CC BY © Ä", "Author": "Лицензия 😀"}
    script = (
        'import { readFileSync } from "node:fs";\nimport { toPng } from "./png.js";\n'
        'const canvas = { toBlob: (done) => done(new Blob([readFileSync("plain.png")])) };\n'
        f"const png = await toPng(canvas, {json.dumps(fields)});\n"
        "process.stdout.write(new Uint8Array(await png.arrayBuffer()));\n"
    )
    content = node(script, tmp_path)
    Image.open(BytesIO(content)).verify()
    assert Image.open(BytesIO(content)).text == fields


def test_rounding_in_javascript_is_that_of_python(tmp_path):
    """Halves go to the even number, beyond the ends is clipped; grey is shown as RGB."""
    for name, content in web.page_files().items():
        (tmp_path / name).write_bytes(content)
    images = np.concatenate([(np.arange(-3, 260, dtype=np.float32) + 0.5) / np.float32(127.5) - 1, [-9, 9, 0.3]])
    images = images.astype(np.float32)
    (tmp_path / "images.bin").write_bytes(images.tobytes())
    script = (
        'import { readFileSync } from "node:fs";\nimport { toRgba } from "./generator.js";\n'
        'const images = new Float32Array(new Uint8Array(readFileSync("images.bin")).buffer);\n'
        "process.stdout.write(toRgba(images, 1));\n"
    )
    got = np.frombuffer(node(script, tmp_path), np.uint8).reshape(-1, 4)
    wanted = to_pixels(torch.from_numpy(images)).numpy()
    assert np.array_equal(got[:, :3], np.stack([wanted] * 3, 1))
    assert (got[:, 3] == 255).all()


@pytest.mark.parametrize(
    ("kind", "label", "to_label", "whole"),
    [("class", CLASSES[0], CLASSES[2], CLASSES[2]), ("attributes", "hat=none", "smile", "hat=none,smile")],
)
def test_labels_on_the_way_in_javascript_are_those_of_python(kind, label, to_label, whole, tmp_path):
    for name, content in web.page_files().items():
        (tmp_path / name).write_bytes(content)
    snapshot = small(kind=kind, names=CLASSES if kind == "class" else ATTRIBUTES)
    start, end = ((snapshot.latents([7]), snapshot.labels([name])) for name in (label, whole))
    labels = {"kind": kind, "names": snapshot.info.label_names}
    labels["rows"] = [] if snapshot.label_rows is None else snapshot.label_rows.tolist()
    wish = {"label": label, "toLabel": to_label, "row": 0}
    script = (
        'import { labelRowOf } from "./latents.js";\n'
        f"const labels = {json.dumps(labels)}, wish = {json.dumps(wish)};\n"
        "console.log(JSON.stringify([0, 0.25, 0.5, 0.75, 1].map((t) => [...labelRowOf(labels, {...wish, t})])));\n"
    )
    wanted = [moment[1][0].tolist() for moment in between(start, end, 5)]
    assert json.loads(node(script, tmp_path)) == wanted


def test_a_link_comes_back_the_same(tmp_path):
    """Any wish that can be made becomes a link and the same wish again."""
    for name in ("wish.js", "engine.js"):
        (tmp_path / name).write_bytes(web.page_files()[name])
    facts = {"models": [{"resolution": 8}, {"resolution": 16}], "snapshot": "abc"}
    facts["labels"] = {"kind": "attributes", "names": list(ATTRIBUTES), "rows": [[0], [1], [2]]}
    wish = {
        "seed": str(2**63 - 1),
        "to": "12",
        "toLabel": "hat=none",
        "t": 0.35,
        "truncation": 0,
        "resolution": 8,
        "label": "hat=cap,smile",
        "row": 2,
    }
    script = (
        f'import * as wish from "./wish.js";\nconst facts = {json.dumps(facts)}, made = {json.dumps(wish)};\n'
        "console.log(JSON.stringify(wish.fromHash(facts, wish.toHash(facts, made, 4))));\n"
    )
    assert json.loads(node(script, tmp_path)) == {"wish": wish, "count": 4, "foreign": False}
