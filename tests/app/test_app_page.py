"""Every panel of the page in Debian's Chromium, with a training that goes on beside it."""

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from serving import Server

import progan
from generators import write_run
from progan.cli import main
from progan.sampling import load
from progan.sampling.interpolation import between, show
from progan.sampling.pictures import Drawing

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")]
PAGE = Path(progan.__file__).parent / "app" / "page"
FLAGS = (
    "--data avatars:64 --resolution 16 --start-resolution 8 --stable-kimg 0.2 --fade-kimg 0.2 --batch-size 8 "
    "--fmap-max 8 --z-dim 8 --tick-kimg 0.04 --device cpu --precision fp32 --compile off --labels"
).split()
CLASSES = ("one", "two <b>", "drei ü")
PANELS = ("make", "morph", "favourites", "training", "compare", "data", "find")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with classes, a newer one that is finished, and a comparison."""
    folder = tmp_path_factory.mktemp("app") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        write_run(folder / "class", kind="class", names=CLASSES)
        assert main(["train", *FLAGS, "--quiet", "--out", str(folder / "done")]) == 0
        hostile = "<script>fetch('/progan.json').catch(() => { words.textContent = 'refused'; })</script>"
        for name, script in (("comparison", ""), ("hostile", hostile)):
            (folder / name).mkdir()
            (folder / name / "comparison.json").write_text("{}")
            page = f"<!doctype html><html lang=en><title>x</title><main><h1 id=words>{name}</h1></main>{script}"
            (folder / name / "report.html").write_text(page)
        yield folder


@pytest.fixture(scope="module")
def served(folder):
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture
def visit(browser, served):
    """Opens the page; the test fails for what went wrong in it, or for a request to another place."""
    contexts, wrong = [], []

    def open_(hash_="", server=served, **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 844}, **settings})
        page = context.new_page()
        contexts.append(context)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.on("request", lambda each: None if each.url.startswith((server.home, "blob:")) else wrong.append(each.url))
        page.goto(server.address + hash_)
        return page

    open_.wrong = wrong
    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def shown(page, place="#stage canvas"):
    """What canvases show, uint8 [N, R, R, 3]."""
    script = """canvases => canvases.map((canvas) => {
        const {width, height} = canvas;
        return [width, Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data)];
    })"""
    found = page.eval_on_selector_all(place, script)
    return np.stack([np.array(data, np.uint8).reshape(side, side, 4)[..., :3] for side, data in found])


def sampled(folder, seeds, label="", resolution=None):
    drawing = Drawing(load(folder / "done", resolution), seeds, [label] * len(seeds))
    return torch.cat(list(drawing.pixels())).permute(0, 2, 3, 1).numpy()


def alike(pixels, wanted):
    """The same but for the last bits, which depend on how many pictures are made at a time: one grey level, rarely."""
    apart = np.abs(pixels.astype(int) - wanted)
    return apart.max() <= 1 and (apart > 0).mean() < 0.01


def drawn(page):
    page.wait_for_selector("#stage[data-drawn]", timeout=120_000)
    return page


def test_pictures_are_made_kept_saved_and_morphed(visit, folder):
    page = drawn(visit("#seed=7"))
    assert alike(shown(page), sampled(folder, [7]))
    assert page.url.partition("#")[0].endswith("/")  # the token is not left in the address
    page.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
    page.check("#counts input[value='4']", force=True)
    assert alike(shown(drawn(page)), sampled(folder, range(7, 11)))
    page.click("#stage .picture >> nth=2")  # enlarged
    playwright.expect(page.locator("#caption")).to_contain_text("seed 9")
    assert alike(shown(drawn(page))[0], sampled(folder, [7, 8, 9])[2])
    page.click("#keep")
    with page.expect_download() as waited:
        page.click("#save")
    saved = Image.open(BytesIO(Path(waited.value.path()).read_bytes()))
    assert saved.text["snapshot"] == load(folder / "done").digest
    page.click("#to-morph")
    assert page.input_value("#morph-to") == "9"
    page.wait_for_selector("#morph-canvas[data-ready]")
    page.click("#tab-favourites")
    playwright.expect(page.locator("#kept canvas[data-ready]")).to_have_count(1)


def saved(page, suffix):
    """Path and name of what a morph is saved as."""
    with page.expect_download(timeout=120_000) as waited:
        page.click(f"#morph-save-{suffix}")
    return Path(waited.value.path()), waited.value.suggested_filename


def test_a_morph_goes_from_class_to_class_and_is_saved(visit, folder):
    page = drawn(visit("&run=class#seed=4"))
    page.click("#tab-morph")
    page.select_option("#morph-ends select >> nth=0", CLASSES[0])
    page.check("#morph-keep")
    assert page.is_disabled("#morph-to")
    page.select_option("#morph-ends select >> nth=1", CLASSES[2])
    page.fill("#morph-position", "0.25")
    playwright.expect(page.locator("#morph-caption")).to_contain_text("25 %")
    snapshot = load(folder / "class")
    ends = [(snapshot.latents([4]), snapshot.labels([name])) for name in (CLASSES[0], CLASSES[2])]
    way = torch.cat([show(snapshot, moment) for moment in between(*ends, 9)]).permute(0, 2, 3, 1).numpy()
    assert alike(shown(page, "#morph-canvas")[0], way[2])
    path, name = saved(page, "png")
    assert name == "morph-4-one-drei_-16x16.png"
    strip = Image.open(path)
    assert (strip.text["seed"], strip.text["snapshot"]) == ("4", snapshot.digest)
    assert alike(np.asarray(strip)[..., :3], np.concatenate(way, 1))
    assert Image.open(saved(page, "webp")[0]).n_frames == 88
    if importlib.util.find_spec("av"):
        assert saved(page, "mp4")[0].read_bytes()[4:8] == b"ftyp"
    else:
        playwright.expect(page.locator("#morph-lacks")).to_contain_text("PyAV")
    # New targets go on from the class that was the end, and change it again.
    page.click("#morph-new")
    assert page.input_value("#morph-ends select >> nth=0") == CLASSES[2]
    assert page.input_value("#morph-ends select >> nth=1") in CLASSES[:2]
    assert page.input_value("#morph-from") == "4"


def test_a_size_is_that_of_its_own_snapshot(visit, folder):
    page = drawn(visit("#seed=3&resolution=8"))
    assert alike(shown(page), sampled(folder, [3], resolution=8))


def test_a_training_is_followed_and_stopped(visit, folder, served, tmp_path):
    """Its numbers, pictures and time left come as it goes; it stops with all saved, and says so."""
    command = [sys.executable, "-m", "progan", "train", *FLAGS, "--total-kimg", "500", "--out", str(folder / "live")]
    training = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        limit = time.monotonic() + 400
        while not (folder / "live" / "stats.jsonl").exists() and time.monotonic() < limit:
            time.sleep(0.1)
        time.sleep(2.5)  # for as long the list of runs holds
        page = visit("&run=live")
        state = page.locator("#training-state")
        playwright.expect(state).to_contain_text("Training", timeout=120_000)
        playwright.expect(state).to_contain_text("left", timeout=120_000)
        playwright.expect(page.locator("#chart-d path.curve").first).to_be_attached()
        playwright.expect(page.locator("#training-grid")).to_be_visible(timeout=120_000)
        assert page.evaluate("document.getElementById('training-grid').naturalWidth") > 100
        before = state.text_content()
        playwright.expect(state).not_to_have_text(before, timeout=120_000)
        page.click("#training-stop")
        assert training.poll() is None  # it asks first
        playwright.expect(page.locator("#training-stop")).to_contain_text("Really")
        page.click("#training-stop")
        assert training.wait(400) == 130
        playwright.expect(state).to_contain_text("Not training now", timeout=120_000)
        assert "all saved. To go on" in training.stderr.read()
    finally:
        training.kill()
        training.communicate()
        shutil.rmtree(folder / "live")


def test_without_the_token_nothing_is_stopped(visit, served):
    page = visit()
    page.context.clear_cookies()
    assert page.evaluate("fetch('api/stop?run=done', {method: 'POST'}).then((answer) => answer.status)") == 403
    visit.wrong.clear()  # which the console shows


def test_a_picture_is_found(visit, folder, tmp_path):
    page = visit("#find")
    Image.fromarray(sampled(folder, [5])[0]).save(tmp_path / "picture.png")
    page.set_input_files("#find-file", tmp_path / "picture.png")
    page.wait_for_selector("#find-after:not([hidden])", timeout=180_000)
    assert np.array_equal(shown(page, "#find-target")[0], sampled(folder, [5])[0])
    error = np.abs(shown(page, "#find-best")[0].astype(float) - shown(page, "#find-target")[0]).mean()
    assert error < 40
    assert page.locator("#find-near canvas").count() == 4
    with page.expect_download() as waited:
        page.click("#find-latent")
    assert len(json.loads(Path(waited.value.path()).read_text())["z"]) == 8
    (tmp_path / "words.png").write_text("words")
    page.set_input_files("#find-file", tmp_path / "words.png")
    playwright.expect(page.locator("#find-state")).to_contain_text("no picture that can be read")


def test_comparison_and_data_are_shown_without_rights(visit):
    page = visit("#compare")
    words = page.frame_locator("#compare iframe").locator("#words")
    playwright.expect(words).to_have_text("comparison")
    page.select_option("#compare select", "hostile")
    playwright.expect(words).to_have_text("refused")  # its script runs, and is not let ask for anything
    page.click("#tab-data")
    playwright.expect(page.frame_locator("#data iframe").locator("h1")).to_contain_text("avatars", timeout=120_000)
    refused = [line for line in visit.wrong if "Content Security Policy" in line]
    assert refused
    visit.wrong[:] = [line for line in visit.wrong if line not in refused]


def test_no_run_is_a_page_that_says_how_to_get_one(visit, tmp_path):
    server = Server(tmp_path)
    page = visit(server=server)
    playwright.expect(page.locator("main")).to_contain_text("progan train")
    playwright.expect(page.locator("main")).to_contain_text(str(tmp_path))
    server.stop()


@pytest.mark.parametrize("panel", ["training", "compare", "data", "find"])
def test_a_page_that_opens_elsewhere_does_not_say_that_it_starts(panel, visit):
    page = visit(f"#{panel}")
    playwright.expect(page.locator(f"#{panel}")).to_be_visible()
    playwright.expect(page.locator("#status")).to_have_text("")
    page.click("#tab-make")
    drawn(page)
    playwright.expect(page.locator("#status")).to_have_text("")


def test_what_cannot_be_shown_is_named_and_other_runs_stay(visit, folder, tmp_path):
    for name in ("done", "broken"):
        shutil.copytree(folder / "done", tmp_path / name)
    for file in (tmp_path / "broken" / "snapshots").iterdir():
        file.write_bytes(file.read_bytes()[:3000])
    os.utime(tmp_path / "done" / "config.json", (1, 1))
    os.utime(tmp_path / "done" / "stats.jsonl", (1, 1))
    server = Server(tmp_path)
    try:
        page = visit(server=server)
        playwright.expect(page.locator("#status")).to_contain_text(
            "16x16.safetensors is not a snapshot, or is damaged."
        )
        page.select_option("#run", "done")
        drawn(page)
        page = visit("&run=gone", server=server)
        playwright.expect(page.locator("#status")).to_contain_text("There is no run gone here.")
        page.select_option("#run", "done")
        drawn(page)
    finally:
        server.stop()
    visit.wrong[:] = [line for line in visit.wrong if "404" not in line]


def test_a_training_is_followed_when_there_is_room_again(visit):
    page = drawn(visit("&run=done#seed=1"))
    refuse = lambda route: route.fulfill(status=503, json={"error": "too many"})  # noqa: E731
    page.route("**/api/training*", refuse, times=1)
    with page.expect_request("**/api/training*"):
        page.click("#tab-training")
    state = page.locator("#training-state")
    playwright.expect(state).to_contain_text("Finished", timeout=20_000)
    assert any("503" in line for line in visit.wrong)
    visit.wrong.clear()


def test_a_training_is_followed_only_while_it_is_seen(visit):
    """Six pages that nobody sees would keep the seventh from everything: a browser has six connections to a server."""
    page = visit("&run=done#training")
    playwright.expect(page.locator("#training-state")).to_contain_text("Finished")

    def turn(hidden):
        page.evaluate(
            "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});"
            "document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )

    with page.expect_event("requestfailed", lambda each: "api/training" in each.url):
        turn(True)
    with page.expect_request("**/api/training*"):
        turn(False)
    page.click("#tab-make")  # it is not followed from there
    asked = []
    page.on("request", lambda each: asked.append(each.url))
    turn(True)
    turn(False)
    page.wait_for_timeout(500)
    assert not [url for url in asked if "api/training" in url]


def test_samples_are_promised_of_what_is_trained(visit):
    page = visit("&run=class#training")
    playwright.expect(page.locator("#training-state")).to_contain_text("Not training now")
    playwright.expect(page.locator("#training-caption")).to_have_text("There are no samples of this run.")


def test_a_page_on_the_disk_says_what_it_needs(browser):
    page = browser.new_page()
    page.goto((PAGE / "index.html").as_uri())
    playwright.expect(page.locator("#status")).to_contain_text("python -m http.server")
    page.close()


def test_the_keyboard_does_it_all(visit):
    page = drawn(visit("#seed=3"))
    page.focus("#tab-make")
    for name in (*PANELS[1:], PANELS[0]):
        page.keyboard.press("ArrowRight")
        playwright.expect(page.locator(f"#tab-{name}")).to_be_focused()
        playwright.expect(page.locator(f"#{name}")).to_be_visible()


@functools.cache
def from_npm(folder, package):
    """Folder with a package of npm; skips the test where it cannot be had."""
    if not (npm := shutil.which("npm")):
        pytest.skip("npm is not installed")
    command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-package-lock", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm could not fetch {package}: {done.stderr[:200]}")
    return folder / "node_modules"


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    return (from_npm(tmp_path_factory.mktemp("axe"), "axe-core@4") / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_accessible(visit, axe, scheme, width, tmp_path):
    """No finding of axe-core on any panel; nothing wider than the screen; a picture of each for people."""
    size = {"viewport": {"width": width, "height": 844}, "is_mobile": width < 500, "color_scheme": scheme}
    page = drawn(visit("#seed=1&count=4", bypass_csp=True, **size))
    page.evaluate(axe)
    for name in PANELS:
        page.click(f"#tab-{name}")
        page.wait_for_timeout(700)
        page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png")
        found = page.evaluate("axe.run({iframes: false})")["violations"]
        assert [(name, each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


def test_modules_that_need_no_browser(tmp_path):
    """tests/app/page, by uvu."""
    modules = from_npm(tmp_path, "uvu@0.5")
    shutil.copytree(PAGE, tmp_path / "page")
    for test in (Path(__file__).parent / "page").glob("*.test.js"):
        shutil.copy(test, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        ["node", str(modules / "uvu" / "bin.js"), ".", r"\.test\.js$"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Passed" in done.stdout
