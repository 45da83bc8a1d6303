"""What is a label and what is not: classes in their order, columns that are none, and what is said of them."""

import io
import json
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.prepare.report import PrepareReport
from progan.data.sources.base import NoLabelsError, array_labels, by_number, why_no_classes
from progan.data.sources.labels import column_labels
from progan.errors import ConfigError, DatasetError

COUNT = 24
FILES = [f"{number:04d}.png" for number in range(COUNT)]


def pictures(folder: Path, files: list[str] = FILES) -> Path:
    for number, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(folder / name)
    return folder


def made(source: Path, out: Path, **settings: Any) -> tuple[Dataset, PrepareReport]:
    report = prepare(source, out, PrepareConfig(workers=1, **settings))
    return Dataset.open(out), report


def codes(dataset: Dataset) -> list[int]:
    labels = dataset.labels(np.arange(dataset.count))
    assert labels is not None
    return [int(code) for code in labels.argmax(1)]


# --- the order of classes


def test_numbers_are_in_their_order_and_words_behind() -> None:
    names = ["10", "2", "b", "1", "0.5", "-3", "a", "1e1", "nan"]
    assert sorted(names, key=by_number) == ["-3", "0.5", "1", "2", "10", "1e1", "a", "b", "nan"]


def test_folders_that_are_numbers(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "digits", [f"{number % 12}/{number}.png" for number in range(COUNT)])
    dataset, _ = made(folder, tmp_path / "out")
    assert dataset.label_names == tuple(map(str, range(12)))
    shown = [int(value) % 12 for value in dataset.pixels(8, np.arange(COUNT))[:, 0, 0, 0]]
    assert codes(dataset) == shown


@pytest.mark.parametrize("kind", ["csv", "json", "npz", "words of an npz", "floats of an npz"])
def test_tables_and_arrays_of_numbers(tmp_path: Path, kind: str) -> None:
    numbers = [number % 12 for number in range(COUNT)]
    source = tmp_path / "images"
    if "npz" in kind:
        source = tmp_path / "images.npz"
        label: Any = {"w": [str(n) for n in numbers], "f": [float(n) for n in numbers]}.get(kind[0], numbers)
        np.savez(source, images=np.zeros((COUNT, 8, 8), np.uint8), labels=np.array(label))
    else:
        pictures(source)
        pairs = zip(FILES, numbers, strict=True)
        text = json.dumps({file: str(n) for file, n in pairs}) if kind == "json" else "file,label\n"
        (source / f"t.{kind}").write_text(text if kind == "json" else text + "\n".join(f"{f},{n}" for f, n in pairs))
    dataset, _ = made(source, tmp_path / "out")
    assert dataset.label_names == tuple(map(str, range(12)))
    assert codes(dataset) == numbers


# --- what is no class and no attribute

CAPTIONS = [f"a photograph of {number} people in a street near the sea" for number in range(COUNT)]
FEW_CAPTIONS = ["a dog that runs on a beach", "a cat that sleeps on a bed"] * (COUNT // 2)
NO_CLASSES = {
    "identifiers": [f"id{number}" for number in range(COUNT)],
    "captions": CAPTIONS,
    "few captions": FEW_CAPTIONS,
    "measurements": [f"{number % 11 / 7:.3f}" for number in range(COUNT)],
    "one value": ["x"] * COUNT,
    "mostly empty": ["a", "b"] + [""] * (COUNT - 2),
}


@pytest.mark.parametrize("kind", NO_CLASSES)
@pytest.mark.parametrize("column", ["label", "caption"])
def test_columns_that_are_no_classes(tmp_path: Path, kind: str, column: str) -> None:
    folder = pictures(tmp_path / "images")
    lines = [
        f"{file},{word},{number % 3}" for number, (file, word) in enumerate(zip(FILES, NO_CLASSES[kind], strict=True))
    ]
    (folder / "table.csv").write_text(f"file,{column},kind\n" + "\n".join(lines))
    dataset, report = made(folder, tmp_path / "out")
    assert (dataset.label_kind, report.skipped) == (None, {})  # the table is no image that cannot be read
    (note,) = report.notes
    assert note.startswith("table.csv names the images")
    assert "--label-column kind takes its 3 values as classes" in note
    assert f"{column}: " in note
    dataset, report = made(folder, tmp_path / "named", label_column="kind")
    assert (dataset.label_names, report.notes) == (("0", "1", "2"), ())
    assert codes(dataset) == [number % 3 for number in range(COUNT)]
    with pytest.raises(DatasetError, match=f"--label-column {column}: column {column} of table.csv has no labels"):
        made(folder, tmp_path / "no", label_column=column)
    with pytest.raises(DatasetError, match="has no column 'kinds'; did you mean kind"):
        made(folder, tmp_path / "no", label_column="kinds")


def test_named_columns_are_attributes(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    rows = [(f"{n}", n % 2, n % 3 / 2, f"{n}", n % 5) for n in range(COUNT)]
    text = "id,hat,smile,name,age\n" + "\n".join(
        ",".join(map(str, (f"{n:04d}", *row[1:]))) for n, row in enumerate(rows)
    )
    (tmp_path / "images.csv").write_text(text)  # beside the folder
    dataset, _ = made(folder, tmp_path / "out", label_column="hat, smile")
    assert (dataset.label_kind, dataset.label_names) == ("attributes", ("hat", "smile"))
    assert np.array_equal(dataset.labels(np.arange(COUNT)), [row[1:3] for row in rows])  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"outside 0 … 1"):
        made(folder, tmp_path / "no", label_column="hat,age")
    with pytest.raises(DatasetError, match="no csv or json file"):
        made(pictures(tmp_path / "bare"), tmp_path / "no", label_column="hat")
    with pytest.raises(DatasetError, match="--label-column is for tables"):
        made(Path("avatars:3"), tmp_path / "no", label_column="hat")
    with pytest.raises(ConfigError, match="wants none"):
        PrepareConfig(labels="none", label_column="hat")


def test_a_table_of_a_few_images_is_said(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    (folder / "t.csv").write_text("file,label\n0000.png,a\n0001.png,b\n")
    dataset, report = made(folder, tmp_path / "out")
    assert dataset.label_kind is None
    assert "names 2 of 24 images" in report.notes[0]


def test_a_stylegan_folder_among_others(tmp_path: Path) -> None:
    """Its dataset.json is not that of all; whoever collects data sets in a folder gets them all, without labels."""
    folder = pictures(tmp_path / "images")
    pictures(folder / "ffhq", FILES[:3])
    (folder / "ffhq" / "dataset.json").write_text(json.dumps({"labels": [[file, 0] for file in FILES[:3]]}))
    dataset, _ = made(folder, tmp_path / "out")
    assert (dataset.label_kind, dataset.count) == (None, COUNT + 3)


def test_cells_that_are_empty_are_no_class(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    (folder / "t.csv").write_text(
        "file,label\n" + "\n".join(f"{f},{'' if f == FILES[3] else 'ab'[n % 2]}" for n, f in enumerate(FILES))
    )
    dataset, report = made(folder, tmp_path / "out")
    assert (dataset.label_names, dataset.count, report.skipped) == (("a", "b"), COUNT - 1, {"refused": 1})


def test_texts_beside_images_are_no_tables(tmp_path: Path) -> None:
    """Captions as other trainers have them, 0001.txt beside 0001.png; each would be matched with all images."""
    folder = pictures(tmp_path / "images")
    for file in FILES:
        (folder / file).with_suffix(".txt").write_text(f"{file} cat\n")
    _, report = made(folder, tmp_path / "out")
    assert (report.count, report.read, report.skipped, report.label_kind) == (COUNT, COUNT, {}, None)
    assert "24 files with the names of images (0000.txt …) are not read as labels" in report.notes


def test_vectors_outside_0_and_1_are_no_attributes(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    vectors = {file: [number - 2.5, 0.5] for number, file in enumerate(FILES)}
    (folder / "dataset.json").write_text(json.dumps({"labels": [[f, v] for f, v in vectors.items()]}))
    np.savez(tmp_path / "a.npz", images=np.zeros((COUNT, 8, 8), np.uint8), label=np.array(list(vectors.values())))
    for number, source in enumerate((folder, tmp_path / "a.npz")):
        dataset, report = made(source, tmp_path / f"out{number}")
        assert (dataset.label_kind, dataset.count) == (None, COUNT)
        assert "values from -2.5 to 20.5, outside 0 … 1" in report.notes[0]


@pytest.mark.parametrize("place", ["folder", "array", "numbers of StyleGAN", "table"])
def test_as_many_values_as_images_never_become_as_many_columns(tmp_path: Path, place: str) -> None:
    many = 3000  # one-hot: 36 MB
    if place == "array":
        with pytest.raises(NoLabelsError, match="3,000 different values for 3,000 images"):
            array_labels(np.arange(many), many, Path("y.npy"))
        with pytest.raises(NoLabelsError, match="300 different values for 300 images"):
            array_labels(np.eye(300), 300, Path("y.npy"))
    elif place == "table":
        with pytest.raises(NoLabelsError, match="3,000 different values for 3,000 images"):
            column_labels("t.csv", {"label": list(range(many))})
    else:
        names = [f"{n if place == 'folder' else 'x'}/{n}.png" for n in range(COUNT)]
        folder = pictures(tmp_path / "images", names)
        if place != "folder":
            (folder / "dataset.json").write_text(json.dumps({"labels": [[f, n] for n, f in enumerate(names)]}))
        dataset, report = made(folder, tmp_path / "out")
        assert dataset.label_kind is None
        assert "24 different values for 24 images" in report.notes[0]


def test_what_may_be_a_class() -> None:
    assert why_no_classes(["a", "b"], 2) == ""  # few images may have as many
    assert why_no_classes([str(n) for n in range(7)], 7) == ""
    assert "8 different values for 8 images" in why_no_classes([str(n) for n in range(8)], 8)
    assert why_no_classes([str(n) for n in range(1000)], 2000) == ""
    assert "more than 10,000 classes" in why_no_classes([str(n) for n in range(20_000)], 10**6)
    assert why_no_classes(["1.5", "2.5", "3"], 100) == ""
    assert why_no_classes(["golden retriever", "great dane"], 100) == ""


def test_imagenets_lists(tmp_path: Path) -> None:
    """Lines of a file and a number, with a space, in a zip."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in FILES:
            archive.writestr(f"n1/{file}", stream.getvalue())
        archive.writestr("val.txt", "\n".join(f"n1/{file} {number % 11}" for number, file in enumerate(FILES)))
    dataset, _ = made(tmp_path / "a.zip", tmp_path / "out")
    assert dataset.label_names == tuple(map(str, range(11)))
    assert codes(dataset) == [number % 11 for number in range(COUNT)]


@pytest.mark.parametrize(("count", "said"), [(12, ("dog",)), (13, ())])
def test_classes_that_the_first_images_do_not_have_are_said(tmp_path: Path, count: int, said: tuple[str, ...]) -> None:
    folder = pictures(tmp_path / "images", [f"{'cat' if n < 12 else 'dog'}/{n:02d}.png" for n in range(COUNT)])
    _, report = made(folder, tmp_path / "out", max_images=count)
    assert report.notes == tuple(
        f"the first 12 images are of other classes than {name} (--max-images)" for name in said
    )


def test_a_folder_with_the_name_of_a_drawn_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "avatars")
    _, report = made(Path("avatars"), tmp_path / "drawn", resolution=4, max_images=3)
    assert report.notes[0] == f"avatars is not the file or folder of that name here (that is {Path('.')}/avatars)"
    assert prepare("./avatars", tmp_path / "own", PrepareConfig(workers=1)).count == COUNT


# --- which row names a file


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_running_number_beside_the_files_is_no_name(tmp_path: Path, kind: str) -> None:
    """What pandas writes of sorted files: 1 beside 10.png. Whole names come before those without a suffix."""
    files = [f"{number}.png" for number in range(COUNT)]
    folder = pictures(tmp_path / "images", files)
    lines = [(row, file, "even" if int(file[:-4]) % 2 == 0 else "odd") for row, file in enumerate(sorted(files))]
    if kind == "csv":
        text = "id,file,label\n" + "\n".join(",".join(map(str, line)) for line in lines)
    else:
        text = "\n".join(json.dumps({"id": row, "file": file, "label": label}) for row, file, label in lines)
    (folder / f"labels.{kind}").write_text(text)
    dataset, _ = made(folder, tmp_path / "out")
    numbers = dataset.pixels(8, np.arange(COUNT))[:, 0, 0, 0].astype(int)
    assert codes(dataset) == (numbers % 2).tolist()


CLASSES = ["cat" if number % 2 else "dog" for number in range(COUNT)]
PAIRS = list(zip(FILES, CLASSES, strict=True))
WRITTEN: dict[str, tuple[str, bytes]] = {
    "a line twice": ("t.csv", "\n".join(f"{f},{c}" for f, c in [*PAIRS, PAIRS[3]]).encode()),
    "UTF-16": ("t.csv", "\n".join(f"{f},{c}" for f, c in PAIRS).encode("utf-16")),
    "an old Mac's line ends": ("t.csv", "\r".join(f"{f},{c}" for f, c in [("file", "kind"), *PAIRS]).encode()),
    "spaces before quotes": ("t.csv", "\n".join(f'"{c}", "{f}"' for f, c in PAIRS).encode()),
    "other capitals": ("t.csv", "\n".join(f"{f.replace('.png', '.PnG')},{c}" for f, c in PAIRS).encode()),
    "names without suffix": ("t.csv", "\n".join(f"{f[:-4]},{c}" for f, c in PAIRS).encode()),
    "a header with the name of a picture": (
        "t.csv",
        "\n".join(f"{f},{c}" for f, c in [("f", "0001"), *PAIRS]).encode(),
    ),
    "folders around": ("t.csv", "\n".join(f"data/set/{f},{c}" for f, c in PAIRS).encode()),
    "a record without more": (
        "t.json",
        json.dumps([{"file": f, "label": c} | ({"note": "x"} if f == FILES[5] else {}) for f, c in PAIRS]).encode(),
    ),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_tables_as_programs_write_them(tmp_path: Path, kind: str) -> None:
    folder = pictures(tmp_path / "images")
    name, content = WRITTEN[kind]
    (folder / name).write_bytes(content)
    dataset, report = made(folder, tmp_path / "out")
    assert (dataset.label_names, codes(dataset), report.skipped) == (
        ("cat", "dog"),
        [int(name == "dog") for name in CLASSES],
        {},
    )


def test_names_of_folders_that_files_share_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    """1.png in two folders, named with the folders that were around them where the table was written."""
    files = [f"{side}/{number}.png" for number in range(COUNT // 2) for side in ("left", "right")]
    folder = pictures(tmp_path / "images", files)
    lines = [f"data/pre/images/{file},{'ab'[number % 2]}" for number, file in enumerate(files)]
    (folder / "t.csv").write_text("\n".join(lines))
    dataset, _ = made(folder, tmp_path / "out")
    numbers = dataset.pixels(8, np.arange(COUNT))[:, 0, 0, 0].astype(int)
    assert codes(dataset) == (numbers % 2).tolist()


def test_names_are_the_same_however_their_letters_are_composed(tmp_path: Path) -> None:
    """macOS takes an accent from its letter (NFD), tables do not (NFC)."""
    files = [unicodedata.normalize("NFD", f"\u00e9t\u00e9-{number}.png") for number in range(COUNT)]
    folder = pictures(tmp_path / "images", files)
    lines = [f"{unicodedata.normalize('NFC', file)},{name}" for file, name in zip(files, CLASSES, strict=True)]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    dataset, _ = made(folder, tmp_path / "out")
    assert dataset.label_names == ("cat", "dog")


def test_names_are_the_same_in_other_capitals_where_no_two_differ_in_these_alone(tmp_path: Path) -> None:
    files = [f"IMG_{number}.JPG" for number in range(COUNT)]
    folder = pictures(tmp_path / "images", files)
    lines = [f"{file.lower()},{name}" for file, name in zip(files, CLASSES, strict=True)]
    (folder / "t.csv").write_text("\n".join(lines))
    assert made(folder, tmp_path / "out")[0].label_names == ("cat", "dog")
    (folder / "t.csv").write_text("\n".join([*lines, "Img_3.jpg,dog"]))
    assert made(folder, tmp_path / "ambiguous")[0].label_names == ()


def test_an_image_without_a_value_is_skipped_and_the_others_keep_theirs(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    records = [{"file": file, "hat": number % 2, "smile": 1} for number, file in enumerate(FILES)]
    del records[7]["smile"]
    (folder / "t.json").write_text(json.dumps(records))
    rows = "\n".join(",".join(str(record.get(key, "")) for key in ("file", "hat", "smile")) for record in records)
    (other := pictures(tmp_path / "others"), (other / "t.csv").write_text("file,hat,smile\n" + rows))
    for source in (folder, other):
        dataset, report = made(source, tmp_path / f"{source.name}-out")
        assert (dataset.label_names, report.skipped) == (("hat", "smile"), {"refused": 1})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"{file},{name}" for file, name in PAIRS] + ["0003.png,cat,more"], "its lines differ in length"),
        ([f"{file},{name}" for file, name in PAIRS] + ["0003.png,dog"], "has several lines for 0003.png"),
    ],
)
def test_a_table_of_the_images_that_is_not_understood_is_said(tmp_path: Path, lines: list[str], said: str) -> None:
    folder = pictures(tmp_path / "images")
    (folder / "t.csv").write_text("\n".join(lines))
    (folder / "requirements.txt").write_text("numpy\npillow, perhaps\n")  # which is none, and nothing is said of it
    dataset, report = made(folder, tmp_path / "out")
    assert (dataset.label_kind, report.skipped) == (None, {"not an image": 1})
    (note,) = report.notes
    assert note.startswith("no labels are taken from it: t.csv")
    assert said in note
    with pytest.raises(DatasetError, match=said):
        made(folder, tmp_path / "no", labels=str(folder / "t.csv"))


# --- folders and what lies beside them


@pytest.mark.parametrize("stray", ["README.md", "cover.png", "info/license.md", "train/notes.txt"])
def test_a_file_beside_the_folders_of_classes_takes_none_away(tmp_path: Path, stray: str) -> None:
    around = "train/" if "/notes" in stray else ""
    files = [f"{around}{'cat' if number % 2 else 'dog'}/{number}.png" for number in range(COUNT)]
    folder = pictures(tmp_path / "images", files)
    if stray.endswith(".png"):
        pictures(folder, [stray])
    else:
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).write_text("of another kind")
    dataset, report = made(folder, tmp_path / "out")
    assert (dataset.label_names, dataset.count) == (("cat", "dog"), COUNT)
    assert report.skipped == {"refused": 1}


def test_pictures_beside_folders_of_classes_that_are_many_are_said(tmp_path: Path) -> None:
    files = [f"{'cat' if number % 2 else 'dog'}/{number}.png" for number in range(COUNT)]
    folder = pictures(pictures(tmp_path / "images", files), ["a.png", "b.png"])
    dataset, report = made(folder, tmp_path / "out")
    assert (dataset.label_kind, dataset.count) == (None, COUNT + 2)
    assert report.notes == ("the 2 folders are not taken for classes (2 of 26 images lie in none of them)",)
