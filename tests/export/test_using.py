"""The examples of docs/using.md do what the page says: run as they stand there, their pictures are those of sample."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generators import write_run
from progan.cli import main
from progan.config import ProGANConfig
from progan.export import web
from progan.images import to_pixels
from progan.sampling import load

pytest.importorskip("onnx")
PAGE = Path(__file__).parents[2] / "docs" / "using.md"


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "rgb"])
def folder(request, tmp_path_factory):
    """A folder with a run and its export under the names of the page."""
    place = tmp_path_factory.mktemp("using")
    (place / "runs").mkdir()
    channels = request.param
    model = ProGANConfig(fmap_base=64, fmap_max=16, z_dim=128)
    write_run(place / "runs" / "digits", (32,), channels=channels, model=model)
    assert main(["export", "onnx", str(place / "runs" / "digits"), str(place / "digits-onnx")]) == 0
    return place


def example(language, words):
    """The block of code of the page with these words in it; no longer than it says."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if words in block]
    assert len(found.splitlines()) <= 26
    return found


def compare(folder, suffix):
    snapshot = load(folder / "runs" / "digits")
    wanted = to_pixels(snapshot.generate(snapshot.latents(range(8)))).permute(0, 2, 3, 1).numpy()
    for seed, pixels in enumerate(wanted):
        made = np.asarray(Image.open(folder / f"seed-{seed}.{suffix}").convert("RGB"))
        assert np.abs(made.astype(int) - pixels.astype(int)).max() <= 1


def test_python_with_onnxruntime_alone(folder):
    code = example("python", "onnxruntime")
    assert "progan" not in code
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=120)
    compare(folder, "png")


@pytest.mark.slow
def test_a_plain_module(folder):
    source = os.path.dirname(os.path.dirname(main.__globals__["progan"].__file__))
    code = example("python", "module()")
    environment = {**os.environ, "PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=300, env=environment)
    alone = "import sys, torch; module = torch.export.load('digits.pt2').module(); "
    alone += "torch.save(module(torch.load('z.pt')), 'p.pt')"
    snapshot = load(folder / "runs" / "digits")
    torch.save(snapshot.latents(range(5)), folder / "z.pt")
    subprocess.run([sys.executable, "-c", f"{alone}; assert 'progan' not in sys.modules"], cwd=folder, check=True)
    wanted = to_pixels(snapshot.generate(snapshot.latents(range(5))))
    assert (torch.load(folder / "p.pt").int() - wanted.int()).abs().max() <= 1


@pytest.mark.browser
def test_javascript_in_node(folder):
    """With onnxruntime-web as npm installs it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node or npm is not installed")
    (folder / "latents.mjs").write_bytes(web.page_files()["latents.js"])
    (folder / "example.mjs").write_text(example("js", "onnxruntime-web"), encoding="utf-8")
    command = [
        npm,
        "install",
        "--prefix",
        str(folder),
        "--ignore-scripts",
        "--no-package-lock",
        f"{web.PACKAGE}@{web.PINNED}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"npm could not fetch {web.PACKAGE}: {done.stderr[:200]}")
    subprocess.run([node, "example.mjs"], cwd=folder, check=True, timeout=120)
    compare(folder, "ppm")
