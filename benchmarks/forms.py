"""Size, time and pixels of every form of a generator: PyTorch, ONNX and the page, with weights in fp32 and fp16.

    python benchmarks/forms.py [RUN|SNAPSHOT …] [--paper 64 256] [--json OUT]

`--paper`: generators of the paper's widths with random weights. A picture at a time on one thread, best of five; the
difference is that of the worst pixel of eight seeds from `progan sample`. The page needs Chromium.
"""

import argparse
import functools
import http.server
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from playwright.sync_api import expect, sync_playwright

from progan import models, snapshot
from progan.commands import WebConfig
from progan.config import ProGANConfig, RunConfig, ScheduleConfig
from progan.export import onnx, web
from progan.export.source import open_source
from progan.images import to_pixels
from progan.models import ImageShape
from progan.progress import silent
from progan.sampling.pictures import Drawing

SEEDS = range(8)


def paper(resolution: int) -> snapshot.Snapshot:
    """A generator as in the paper, untrained."""
    model, shape = ProGANConfig(), ImageShape(resolution, 3)
    G, _ = models.build(model, shape, seed=1)
    config = RunConfig(model=model, schedule=ScheduleConfig(resolution=resolution))
    info = snapshot.SnapshotInfo(config, shape, resolution, 1.0, 0, f"nothing, paper widths at {resolution}")
    return snapshot.of_generator(G, info)


def best(call: Callable[[], Any], times: int = 5) -> float:
    """Milliseconds."""
    call()
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return 1000 * min(found)


def rows(made: snapshot.Snapshot, path: Path) -> Iterator[dict[str, Any]]:
    """A row for each form."""
    wanted = torch.cat(list(Drawing(made, SEEDS).pixels())).permute(0, 2, 3, 1).numpy()
    if wanted.shape[3] == 1:
        wanted = np.repeat(wanted, 3, 3)
    z = made.latents([0])
    size = path.stat().st_size
    yield {"form": "PyTorch", "weights": "fp32", "bytes": size, "ms": best(lambda: made.generate(z)), "difference": 0}
    module = made.module()
    with torch.no_grad():
        pixels = torch.cat([module(made.latents([seed])) for seed in SEEDS])
        row = {"form": "plain module", "weights": "fp32", "bytes": size, "ms": best(lambda: module(z))}
    yield row | {"difference": apart(pixels, wanted)}
    for weights in ("fp32", "fp16"):
        graph = onnx.make(made, weights)  # type: ignore[arg-type]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph.content, options, providers=["CPUExecutionProvider"])

        def run(seed: int, session: Any = session) -> Any:
            given = {"z": made.latents([seed]).numpy(), "truncation": np.array(1, np.float32)}
            return session.run(["images"], given)[0]

        images = torch.cat([torch.from_numpy(run(seed)) for seed in SEEDS])
        row = {"form": "ONNX, onnxruntime", "weights": weights, "bytes": len(graph.content)}
        yield row | {"ms": best(lambda run=run: run(0)), "difference": apart(to_pixels(images), wanted)}
        yield {"form": "page, WebAssembly", "weights": weights, "bytes": len(graph.content)} | page(
            path, weights, wanted
        )


def apart(pixels: torch.Tensor, wanted: Any) -> int:
    """Largest difference of pixels uint8 [N, C, R, R] from [N, R, R, 3]."""
    return int(np.abs(pixels.permute(0, 2, 3, 1).numpy().astype(int) - wanted).max())


def page(path: Path, weights: str, wanted: Any) -> dict[str, Any]:
    """Milliseconds and difference in Chromium."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        config = WebConfig(weights=weights)  # type: ignore[arg-type]
        web.export(open_source(path, config), Path(folder), config, silent)
        handler = functools.partial(Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        opened = browser.new_page()
        times, difference = [], 0
        opened.goto(f"http://127.0.0.1:{server.server_port}/")
        expect(opened.locator("#offline")).to_contain_text("Ready", timeout=300_000)
        for seed in SEEDS:
            opened.evaluate("document.getElementById('stage').removeAttribute('data-drawn')")
            opened.evaluate("seed => { location.hash = `#seed=${seed}`; }", seed)
            opened.wait_for_selector("#stage[data-drawn]", timeout=60_000)
            script = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
            data = opened.eval_on_selector("#stage canvas", script)
            got = np.array(data, int).reshape(*wanted.shape[1:3], 4)[..., :3]
            difference = max(difference, int(np.abs(got - wanted[seed]).max()))
            times.append(float(opened.get_attribute("#stage", "data-milliseconds") or "nan"))
        browser.close()
        server.shutdown()
        server.server_close()
    return {"ms": min(times), "difference": difference}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A static host that says nothing."""

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Size, time and pixels of every form of a generator.")
    parser.add_argument("sources", nargs="*", type=Path, help="runs or snapshots")
    parser.add_argument(
        "--paper", nargs="*", type=int, default=[], metavar="R", help="paper widths at R, random weights"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to a file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        all_made = [open_source(source, WebConfig()).last for source in arguments.sources]
        for made in [*all_made, *map(paper, arguments.paper)]:
            path = Path(folder) / "a.safetensors"
            made.save(path)
            name = f"{made.info.dataset}, {made.resolution}×{made.resolution}"
            print(f"\n| {name} | weights | MB | ms | worst pixel |\n|---|---|---:|---:|---:|")
            found[name] = []
            for row in rows(snapshot.load(path), path):
                found[name].append(row)
                cells = (
                    row["form"],
                    row["weights"],
                    f"{row['bytes'] / 1e6:.1f}",
                    f"{row['ms']:.3g}",
                    f"{row['difference']}/255",
                )
                print(f"| {' | '.join(cells)} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
