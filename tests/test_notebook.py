"""The tutorial, executed as it stands but for its sizes."""

import base64
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from tiny import TINY

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
SIZES = {name: value for name, value in TINY.items() if name not in ("data", "quiet")} | {"resolution": 16}


def test_what_is_committed_has_no_outputs() -> None:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    (sizes,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    sizes.source = f"from pathlib import Path\nwork, images, settings = Path('tutorial'), 64, {SIZES!r}"
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {
        cell.source.strip().splitlines()[-1]: [dict(output.get("data", {})) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    # Rich displays: of a run its facts and newest grid, of a snapshot its first samples.
    (run,) = (data for data in outputs["run"] if data)
    assert "finished" in run["text/html"]
    assert "data:image/png;base64," in run["text/html"]
    assert shape(outputs["snapshot"][-1]) == (8 * 64 + 7, 2 * 64 + 1)
    # Grids, one of four seeds with three truncations among them, and four ways of nine images.
    assert shape(outputs["show(progan.to_pixels(torch.cat(rows)), columns=4, factor=4)"][-1]) == (262, 196)
    assert shape(outputs["show(interpolations(snapshot, 4, 9).flatten(0, 1), columns=9)"][-1]) == (448, 198)
    grown = outputs["    display(show(pixels, factor=64 // resolution))"]
    assert [shape(data) for data in grown] == [(8 * 64 + 7 * 2, 64)] * 3
    (numbers,) = (cell.outputs[0].text for cell in notebook.cells if "progan.evaluate(" in cell.source)
    assert [line.split()[0] for line in numbers.splitlines()] == ["swd_16", "swd", "ms_ssim"]
    assert "generator-16x16.onnx" in notebook.cells[-1].outputs[-1].data["text/plain"]
    assert (tmp_path / "tutorial" / "run" / "report.html").stat().st_size > 10_000


def shape(data: dict[str, str]) -> tuple[int, int]:
    """Width and height of a displayed picture."""
    with Image.open(BytesIO(base64.b64decode(data["image/png"]))) as image:
        return image.size
