"""Every panel of the page in Debian's Chromium, with a training that goes on beside it."""

import functools
import importlib.util
import json
import math
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
playwright.expect.set_options(timeout=30_000)  # on a machine with other work
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
    # A newer run changes nothing of a link; and the token is not left in it.
    assert page.url.partition("#")[0].endswith("/?run=done")
    page.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
    page.check("#counts input[value='4']", force=True)
    assert alike(shown(drawn(page)), sampled(folder, range(7, 11)))
    page.focus("#stage .picture >> nth=2")
    page.keyboard.press("Enter")  # enlarged
    playwright.expect(page.locator("#keep")).to_be_focused()
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


def slowed(page, milliseconds, what="api/picture"):
    """The server answers so much later; `asked` of the window counts how often it was asked."""
    script = """([milliseconds, what]) => {
        const plain = window.fetch;
        window.asked = 0;
        window.fetch = async (address, settings) => {
            if (address.startsWith(what)) {
                window.asked++;
                await new Promise((resolve) => setTimeout(resolve, milliseconds));
            }
            return plain(address, settings);
        };
    }"""
    page.evaluate(script, [milliseconds, what])


def whole(page):
    """Waits for all pictures that the address asks for."""
    page.wait_for_selector(f"#stage[data-drawn='{page.evaluate('location.hash')}']", timeout=120_000)
    return page


@pytest.mark.parametrize(
    ("change", "name", "seeds"),
    [
        ("#after", "seed-8-16x16.png", [8]),
        ("#sizes input[value='8']", "seed-7-8x8.png", [7]),
        ("#counts input[value='4']", "seed-7-16x16-4.png", [7, 8, 9, 10]),
    ],
)
def test_a_picture_that_is_not_there_yet_is_not_saved(visit, folder, change, name, seeds):
    page, downloads = drawn(visit("#seed=7")), []
    page.on("download", lambda each: downloads.append(each))
    slowed(page, 1500)
    page.click(change, force=True)
    page.click("#save")
    playwright.expect(page.locator("#status")).to_contain_text("not made yet")
    whole(page)
    playwright.expect(page.locator("#status")).to_have_text("")
    assert downloads == []
    with page.expect_download() as waited:
        page.keyboard.press("s")
    saved = Image.open(waited.value.path())
    assert (waited.value.suggested_filename, saved.text["seed"]) == (name, ",".join(map(str, seeds)))
    side, across = (8 if "8x8" in name else 16), math.isqrt(len(seeds))
    pixels = np.asarray(saved.convert("RGB")).reshape(across, side, across, side, 3).swapaxes(1, 2)
    wanted = sampled(folder, range(7, 11), resolution=side)[[seed - 7 for seed in seeds]]
    assert alike(pixels.reshape(-1, side, side, 3), wanted)


def test_a_picture_that_failed_is_not_saved(visit):
    page, downloads = drawn(visit("#seed=7")), []
    page.on("download", lambda each: downloads.append(each))
    page.route("**/api/picture*", lambda route: route.fulfill(status=500, body="x"))
    page.click("#after")
    playwright.expect(page.locator("#status")).to_contain_text("refused (500)")
    page.click("#save")
    playwright.expect(page.locator("#status")).to_contain_text("not made yet")
    page.unroute("**/api/picture*")
    page.click("#again")
    whole(page)
    page.evaluate("() => { HTMLCanvasElement.prototype.toBlob = (take) => take(null); }")
    page.keyboard.press("s")
    playwright.expect(page.locator("#status")).to_contain_text("could not be written")
    assert downloads == []
    visit.wrong[:] = [line for line in visit.wrong if "500" not in line]


def test_a_picture_on_a_way_is_saved_with_both_seeds(visit):
    page = drawn(visit("#seed=1&to=9&t=0.5"))
    with page.expect_download() as waited:
        page.click("#save")
    assert Image.open(waited.value.path()).text["seed"] == "1,9"


def test_a_file_is_named_after_the_picture_in_it(visit, folder):
    """Also when the user goes on at once."""
    page = drawn(visit("#seed=7"))
    with page.expect_download() as waited:
        page.evaluate("() => ['save', 'after'].forEach((id) => document.getElementById(id).click())")
    assert waited.value.suggested_filename == "seed-7-16x16.png"
    assert alike(np.asarray(Image.open(waited.value.path()).convert("RGB"))[None], sampled(folder, [7]))


def test_what_was_given_up_is_not_asked_for(visit):
    """A slider that is drawn asks for a picture at a time: those under way, and the last."""
    page = drawn(visit("#seed=7"))
    slowed(page, 600)
    page.evaluate(
        "async () => { const slider = document.getElementById('truncation');"
        "for (let i = 1; i <= 20; i++) { slider.value = String(i / 40); slider.dispatchEvent(new Event('input'));"
        "await new Promise((resolve) => setTimeout(resolve, 5)); } }"
    )
    whole(page)
    assert page.evaluate("asked") <= 3


def test_a_morph_that_is_paused_and_played_again_goes_on(visit):
    page = drawn(visit("#seed=7"))
    page.click("#tab-morph")
    page.wait_for_selector("#morph-canvas[data-ready]")
    slowed(page, 400)
    page.fill("#morph-position", "0.25")

    def moved():
        before = page.input_value("#morph-position")
        page.wait_for_function("before => document.getElementById('morph-position').value !== before", arg=before)
        return float(page.input_value("#morph-position"))

    page.click("#morph-play")
    assert moved() > 0.25  # it begins where it is
    page.evaluate("() => { for (let i = 0; i < 2; i++) document.getElementById('morph-play').click(); }")
    for _ in range(4):  # the picture that was under way when it was paused comes meanwhile
        moved()
    playwright.expect(page.locator("#morph-play")).to_have_text("Pause")


def test_an_address_names_panels_only(visit):
    """Not what every object has."""
    page = drawn(visit("#constructor"))
    page.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
    page.evaluate("location.hash = '#toString'")
    drawn(page)
    assert page.locator("[role=tabpanel]:visible").count() == 1


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


def test_a_comparison_is_shown_again_after_one_that_failed(visit):
    page = visit("#compare")
    words = page.frame_locator("#compare iframe").locator("#words")
    playwright.expect(words).to_have_text("comparison")
    gone = {"status": 404, "json": {"error": "it is gone"}}
    page.route("**/api/page/compare?name=hostile", lambda route: route.fulfill(**gone))
    page.select_option("#compare select", "hostile")
    playwright.expect(page.locator("#compare [role=status]")).to_have_text("It is gone.")
    page.select_option("#compare select", "comparison")
    playwright.expect(words).to_be_visible()
    playwright.expect(page.locator("#compare [role=status]")).to_have_text("")
    visit.wrong[:] = [line for line in visit.wrong if "404" not in line]


def test_of_two_comparisons_the_chosen_one_is_shown(visit):
    """Also if the other comes later."""
    page = visit("#compare")
    words = page.frame_locator("#compare iframe").locator("#words")
    playwright.expect(words).to_have_text("comparison")
    slowed(page, 1000, "api/page/compare?name=hostile")
    page.select_option("#compare select", "hostile")
    page.select_option("#compare select", "comparison")
    page.wait_for_timeout(2000)
    playwright.expect(words).to_have_text("comparison")
    playwright.expect(page.locator("#compare [role=status]")).to_have_text("")


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
        playwright.expect(page.locator("main")).to_contain_text("16x16.safetensors is not a snapshot, or is damaged.")
        page.select_option("#run", "done")
        drawn(page)
        page = visit("&run=gone", server=server)
        playwright.expect(page.locator("main")).to_contain_text("There is no run gone here.")
        page.select_option("#run", "done")
        drawn(page)
        for side in (4, 32, 64, 128, 256):  # whose sentences fill a phone's screen, and lie over nothing
            (tmp_path / "done" / "snapshots" / f"generator-000000001-{side}x{side}.safetensors").write_text("words")
        page = drawn(visit("&run=done", server=server, viewport={"width": 390, "height": 844}, is_mobile=True))
        playwright.expect(page.locator("main")).to_contain_text("256x256.safetensors is not a snapshot")
        playwright.expect(page.locator("#status")).to_have_text("")
        page.click("#new", timeout=5000)
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


STATE = {
    "live": True,
    "asked": False,
    "finished": False,
    "cur_nimg": 40,
    "total": 1000,
    "spans": [[8, "stable", 0, 1000]],
    "resolution": 8,
    "phase": "stable",
    "alpha": 1,
    "left": None,
    "grids": [],
}


@pytest.fixture
def followed(visit, folder):
    """Opens the page of a training that says what the test wants: lines and, at each look, the next of some states."""
    picture = next((folder / "done" / "samples").glob("fakes-*.png")).read_bytes()

    def open_(lines, *states):
        page, left = drawn(visit("&run=done#seed=1")), list(states)

        def answer(route):
            state = {**STATE, **(left.pop(0) if len(left) > 1 else left[0])}
            events = f"retry: 300\nevent: all\ndata: {json.dumps(lines)}\n\nevent: state\ndata: {json.dumps(state)}\n\n"
            route.fulfill(body=events, content_type="text/event-stream")

        page.route("**/api/training*", answer)
        page.route("**/api/grid*", lambda route: route.fulfill(body=picture, content_type="image/png"))
        page.click("#tab-training")
        return page

    return open_


def test_what_is_finished_is_not_stopped(followed):
    page = followed([], {}, {"finished": True})
    playwright.expect(page.locator("#training-stop")).to_be_visible()
    playwright.expect(page.locator("#training-state")).to_contain_text("Finished")
    playwright.expect(page.locator("#training-stop")).to_be_hidden()


def test_the_grid_that_is_looked_at_stays(followed):
    """Also when the training deletes every second one; of those, the one before is shown."""
    grids = [f"fakes-{1000 * i:09d}-8x8.png" for i in range(65)]
    page = followed([], {"grids": grids})
    moment, caption = page.locator("#training-moment"), page.locator("#training-caption")
    playwright.expect(caption).to_have_text("8×8, after 64 thousand images")
    for at, kept in ((20, 20), (31, 30)):
        page = followed([], {"grids": grids}, {"grids": grids[::2]})
        moment, caption = page.locator("#training-moment"), page.locator("#training-caption")
        playwright.expect(moment).to_have_attribute("max", "64")
        moment.fill(str(at))
        playwright.expect(caption).to_have_text(f"8×8, after {at} thousand images")
        playwright.expect(moment).to_have_attribute("max", "32")
        playwright.expect(caption).to_have_text(f"8×8, after {kept} thousand images")
        assert moment.input_value() == str(kept // 2)


def test_a_single_number_is_seen(followed):
    """Of a curve that has one, and between those that are missing."""
    for losses in ([0.5], [None, 0.5, None]):
        lines = [{"cur_nimg": 40 * (i + 1), "resolution": 8, "D/real": loss} for i, loss in enumerate(losses)]
        page = followed(lines, {})
        playwright.expect(page.locator("#chart-d path.curve").first).to_be_attached()
        chart = np.asarray(Image.open(BytesIO(page.locator("#chart-d svg").screenshot())).convert("RGB")).astype(int)
        assert (np.abs(chart - (61, 79, 196)).max(2) < 40).sum() > 10


def test_the_first_pictures_and_the_report_are_offered_when_they_come(visit, folder, tmp_path):
    run = tmp_path / "runs" / "young"
    shutil.copytree(folder / "done", run)
    for name in ("snapshots", "report.html"):
        (run / name).rename(tmp_path / name)
    server = Server(tmp_path / "runs")
    try:
        page = visit("#training", server=server)
        playwright.expect(page.locator("#training-state")).to_contain_text("Finished")
        assert page.locator("#tab-make").is_hidden()
        for name in ("training-make", "training-report"):
            assert page.locator(f"#{name}").is_hidden()
        for name in ("snapshots", "report.html"):
            (tmp_path / name).rename(run / name)
        playwright.expect(page.locator("#training-report")).to_be_visible()
        page.click("#training-make")
        drawn(page)
        assert page.locator("#tab-make").is_visible()
    finally:
        server.stop()


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
