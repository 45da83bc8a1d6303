"""The command line, as people call it."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import progan
import tiny
from progan.cli import COMMANDS, main, parser
from progan.cli.sample import parse_seeds
from progan.cli.train import run_options
from progan.config import PrepareConfig, RunConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.errors import ConfigError
from progan.options import GROUPS
from progan.presets import PRESETS, about
from progan.run import dry_run
from progan.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("traced_once")

TINY = (
    "--data avatars:32 --resolution 8 --stable-kimg 0.05 --fade-kimg 0.05 --batch-size 8 --fmap-max 8 --z-dim 8 "
    "--device cpu --precision fp32"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder made by the command."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        assert main(["train", *TINY, "--quiet"]) == 0
    return folder / "runs" / "00000-quickstart-avatars"


def test_without_out_a_numbered_folder_is_made(run):
    assert (run / "config.json").exists()


def test_json_is_one_object_and_nothing_else(run, capsys):
    assert main(["train", "--out", str(run), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["finished"]
    assert main(["train", "celeba64", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 10_000_000
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["--device auto"]


def test_a_name_that_may_be_mistyped_is_said_to_be_new(run, tmp_path, monkeypatch, capsys):
    images = Dataset.open(RunFolder(run).read()[1].path)
    monkeypatch.setattr("progan.run.open_dataset_in_turn", lambda *_: images)
    note = f"note: there is no run in {tmp_path / 'typo'} yet: a new one of preset quickstart begins"
    monkeypatch.setattr("progan.run.set_up", lambda *_: (_ for _ in ()).throw(ConfigError("enough")))
    for more, said in (([], True), (["quickstart"], False), (["--data", "avatars:16"], False), (["--lr", "1"], False)):
        assert main(["train", "--out", str(tmp_path / "typo"), *more]) == 2
        assert (note in capsys.readouterr().err.splitlines()) is said


def test_what_is_to_be_copied_is_quoted(run, tmp_path, capsys):
    folder = tmp_path / "ä b"
    assert main(["train", *TINY, "--data", str(RunFolder(run).read()[1].path), "--out", str(folder)]) == 0
    commands = re.findall(r"(?:next: |watch the run with: |page +|quality +)(progan [^,\n]*)", capsys.readouterr().err)
    assert len(commands) >= 2
    assert all(str(folder) in shlex.split(command) for command in commands)


def test_sample_writes_a_grid_of_the_size_asked_for(run, tmp_path, capsys):
    assert main(["sample", str(run), "--num", "6", "--columns", "3", "--out", str(tmp_path / "g.png")]) == 0
    assert Image.open(tmp_path / "g.png").size == (24, 16)
    assert str(tmp_path / "g.png") in capsys.readouterr().out


def test_sample_takes_the_resolutions_own_snapshot_of_a_run(run, tmp_path, capsys):
    main(["sample", str(run), "--resolution", "4", "--num", "1", "--out", str(tmp_path / "a.png"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["resolution"] == 4
    newest = next((run / "snapshots").glob("*-8x8.safetensors"))
    main(["sample", str(newest), "--resolution", "4", "--num", "1", "--out", str(tmp_path / "b.png")])
    assert "box-averaged from 8x8" in capsys.readouterr().out


def test_sample_separate_files_and_seeds(run, tmp_path):
    assert main(["sample", str(run), "--seeds", "3,5-6", "--separate", "--out", str(tmp_path / "many")]) == 0
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [
        "seed-0000003.png", "seed-0000005.png", "seed-0000006.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["--versoin"], "no option --versoin; did you mean --version? See `progan --help`"),
        (["tarin"], "no command 'tarin'; did you mean train? See `progan --help`"),
        (["data", "splti"], "no command 'splti'; did you mean split? See `progan data --help`"),
        (["fly"], "no command 'fly'; there are train, prepare, "),
        (["train", "--batch-szie", "3"], "--batch-szie; did you mean --batch-size? See `progan train --help`"),
        (["train", "--no-mirorr"], "--no-mirorr; did you mean --no-mirror?"),
        (["train", "--xyzzy=3"], "there is no option --xyzzy. See `progan train --help`"),
        (["evaluate", "--metrcs", "swd"], "--metrcs; did you mean --metrics?"),
        (
            ["sample", "nowhere", "--gp-weight", "3"],
            "--gp-weight is an option of `progan train`, not of `progan sample`",
        ),
        (["prepare", "a", "b", "--to", "stylegan"], "no --to 'stylegan'; did you mean stylegan-zip?"),
        (["train", "mnist23"], "no preset 'mnist23'; did you mean mnist32?"),
        (["train", "mnist23", "--help"], "no preset 'mnist23'; did you mean mnist32?"),
        (["train", "a", "b"], "unrecognized arguments: b"),
        (["train", "--lr", "fast"], "--lr"),
        (["train", "--resolution", "48", "--dry-run"], "--resolution must be a power of two"),
        (["train", "--loss", "hinges", "--dry-run"], "--loss must be one of"),
        (["train", "mnist32"], "--data"),
        (["train", "--out", "/dev/null/x", *TINY], "/dev/null/x"),
        (["sample", "nowhere"], "does not exist"),
        (["sample", ".", "--num", "3"], "is not a run folder"),
        (["sample", "nowhere", "--seeds", "3-"], "does not exist"),
        (["sample", "nowhere", "--num", "x"], "--num"),
        (["import", "nowhere.pkl"], "nowhere.pkl does not exist"),
        (["import", "nowhere.pkl", "snapshot.txt"], "nowhere.pkl does not exist"),
        (["completion", "fish"], "there is no shell 'fish'; there are bash, zsh, tcsh"),
        (["train", "--data", "", "--dry-run"], "needs images"),
        (["train", "--data", "avatars:9", "--held-out", "nowhere", "--dry-run"], "nowhere has no"),
        (["sample", "--resolution", "0"], "--resolution must be a power of two"),
        (["interpolate", "--resolution", "0"], "--resolution must be a power of two"),
        (["find", "avatars64", "x.png", "--resolution", "0"], "--resolution must be a power of two"),
        (["evaluate", "avatars64", "--resolution", "0"], "--resolution must be a power of two"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith(("preparing", "avatars"))]
    assert len(lines) == 1
    assert message in lines[0]
    assert captured.out == ""


@pytest.mark.parametrize("command", ["sample", "evaluate", "report", "interpolate", "export onnx"])
def test_a_folder_of_runs_names_them(command, run, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    out = [str(tmp_path / "out")] if command.startswith("export") else []
    assert main([*command.split(), str(run.parent), *out]) == 2
    assert f"is not a run folder: it holds 1. Name one of {run}" in capsys.readouterr().err
    assert main([*command.split(), str(tmp_path / "empty"), *out]) == 2
    assert "is not a run folder: it has no config.json" in capsys.readouterr().err


def test_long_differences_are_cut(run, capsys):
    changed = "--lr 1 --d-lr 3 --batch-size 3 --z-dim 3 --seed 9 --fmap-max 9 --mirror --stable-kimg 3 --fade-kimg 4"
    assert main(["train", "--out", str(run), *TINY, *changed.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "which cannot change: mirror: False -> True; " in line
    assert "; and 2 more; --allow-change would take lr: 0.008 -> 1; d-lr: " in line
    assert line.partition("; and 2 more")[0].count(" -> ") == 5


def test_truncation_beyond_training_is_said(run, capsys, tmp_path):
    place = ["--num", "1", "--out", str(tmp_path / "x.png")]
    assert main(["sample", str(run), "--truncation", "0.7", *place]) == 0
    assert "note" not in capsys.readouterr().err
    assert main(["sample", str(run), "--truncation", "5", *place]) == 0
    assert "note: --truncation 5 goes beyond" in capsys.readouterr().err
    for command in ("sample", "interpolate"):
        assert main([command, str(run), "--truncation", "nan"]) == 2
        assert "--truncation must be" in capsys.readouterr().err


def test_an_end_before_the_last_resolution_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    assert main(["train", *TINY, "--total-kimg", "0.02", "--out", str(tmp_path / "run")]) == 0
    assert "warning: --total-kimg 0.02 ends at 4x4: 8x8 begins after 0.05 kimg" in capsys.readouterr().err


def test_seeds():
    assert parse_seeds("3,7,20-22") == [3, 7, 20, 21, 22]
    for text in ("", "a", "1,,2", "-3", "4-x"):
        with pytest.raises(ConfigError, match="3,7,20-29"):
            parse_seeds(text)


def test_a_mistyped_metric_names_the_nearest(run):
    with pytest.raises(ConfigError, match=r"there is no metric 'ms-sim'; did you mean ms-ssim\?"):
        progan.evaluate(progan.load(run), progan.Dataset.open(RunFolder(run).read()[1].path), ["ms-sim"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "nowhere does not exist"),
        ("stacked:nowhere", "nowhere does not exist"),
        ("avatars:none", "avatars:none is not understood"),
        ("empty", "empty holds no images"),
        ("notes.md", "notes.md is neither an archive nor an array"),
        ("a.zip", "a.zip is a damaged archive"),
        ("dataset", "dataset has images up to 8x8"),
    ],
)
def test_a_dry_run_refuses_the_data_that_training_would_refuse(data, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("no images")
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 no zip")
    prepare("avatars:16", tmp_path / "dataset", PrepareConfig(resolution=8, workers=1))
    said = []
    for more in (["--dry-run"], ["--out", "run", "--device", "cpu"]):
        assert main(["train", "--data", data, *more]) == 2
        said.append(capsys.readouterr().err.splitlines()[-1])
    assert said[0] == said[1]
    assert message in said[0]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_prepares_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    assert main(["train", *TINY, "--dry-run"]) == 0
    assert "8x8 stable" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_run_is_that_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", *TINY, *out, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["train", *out, "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "8x8 stable" in planned
    assert "16x16" not in planned
    assert main(["train", *TINY, *out, "--seed", "7", "--dry-run"]) == 2
    assert "cannot change: seed" in capsys.readouterr().err


def test_a_dry_run_of_a_run_says_what_the_command_would_do(capsys, tmp_path, monkeypatch):
    """It has the run's length, its epochs, and the images that were prepared of those that are gone."""
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", images)
    kept = [*TINY[: TINY.index("--stable-kimg")], *TINY[TINY.index("--stable-kimg") + 2 :]]
    line = [
        "train",
        *kept,
        "--data",
        str(tmp_path / "grey.npy"),
        "--stable-epochs",
        "3",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*line, "--quiet"]) == 0
    (tmp_path / "grey.npy").unlink()
    capsys.readouterr()
    assert main([*line, "--minutes", "30", "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    kimg = sum(stage["images"] for stage in planned["stages"]) / 1000
    assert f"note: --minutes is for a new run, and this one keeps its {kimg:g} kimg" in planned["notes"]
    assert kimg < 1


def test_iterations_and_space_of_a_plan(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    options = {**tiny.TINY, "stable_kimg": 0.2, "start_resolution": 8}
    del options["quiet"]
    plain, often = (dry_run(**options, **more)[0] for more in ({}, {"d_steps": 5, "snapshot_kimg": 0.01}))
    assert [stage.iterations for plan in (plain, often) for stage in plan.stages] == [25, 5]
    assert often.disk - plain.disk == 20 * 4 * plain.parameters[0]


def test_a_folder_called_none_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert progan.train(out="none", until=8, **tiny.TINY).path == Path("none")


# The help


def shown(arguments, capsys, monkeypatch, width="100"):
    """What is printed for --help, at this width of the terminal."""
    monkeypatch.setenv("COLUMNS", width)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


OPTIONS = {option.name: option for group in GROUPS for option in run_options(RunConfig(), group)}


def test_the_short_help_of_train_is_one_screen(capsys, monkeypatch):
    text = shown(["train", "--help"], capsys, monkeypatch)
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 100
    for flag in "--data --out --resolution --total-kimg --batch-size --lr --loss --model --labels --mirror".split():
        assert f"  {flag}" in text
    for flag in "--device --precision --seed --quiet --dry-run --help-all".split():
        assert f"  {flag}" in text
    assert "--fmap-base" not in text
    assert text.count("\n  progan train") == 4


def test_the_whole_help_of_train_has_all_options_in_groups(capsys, monkeypatch):
    text = shown(["train", "--help-all"], capsys, monkeypatch)
    places = [text.index(f"\n{title}:") for title in "dataset model loss schedule optimiser running health".split()]
    assert places == sorted(places)
    assert [name for name in OPTIONS if f"\n  --{name.replace('_', '-')}" not in text] == []
    assert all(f"\n  {name} " in text for name in PRESETS)


def test_options_of_one_model_or_loss_say_whose_they_are(capsys, monkeypatch):
    text = " ".join(shown(["train", "paper1024", "--help-all"], capsys, monkeypatch).split())
    assert "--pixel-norm {g,both,none} [progan] " in text
    assert "--width N [dcgan] " in text
    assert "--fmap-base N [progan, growing-batchnorm] " in text
    assert "--gp-weight X [wgan-gp] " in text
    assert "--r1-weight X [nonsaturating, minimax, hinge, relativistic] " in text
    assert "(default: nonsaturating: 0, minimax: 0, hinge: 0, relativistic: 1)" in text
    text = " ".join(shown(["train", "mnist32", "--help-all"], capsys, monkeypatch).split())
    assert "equation 9) (default: 1; minimax: 0, hinge: 0)" in text, "first the preset's own"
    for flag in ("--z-dim N", "--label-weight X", "--lr X|R:X,…"):
        assert f"{flag} [" not in text, "all of them have it"


@pytest.mark.parametrize(("name", "help_"), [("mnist32", "--help"), ("lsgan32", "--help-all")])
def test_the_help_of_a_preset_has_its_values_and_description(name, help_, capsys, monkeypatch):
    text = " ".join(shown(["train", name, help_], capsys, monkeypatch).split())
    assert f"Train with preset {name}: {about(name)}" in text
    for wanted in {
        "mnist32": ["(default: 0.008)", "(default: none, it must be given)"],
        "lsgan32": [
            "--z-dim N Length of the latent vector (default: 200; progan: 512, growing-batchnorm: 100)",
            "(default: lsgan)",
            "[progan] Activation function of G (default: leaky-relu)",
            "[wgan-gp] Weight of the gradient penalty, lambda (default: 10)",
            "drawn for each image and layer (default: 0.25)",
            "--stable-epochs X|R:X,… The same in epochs (passes over the data) (default: 8)",
        ],
    }[name]:
        assert wanted in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_its_defaults_and_examples_that_are_right(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    leaf = parser()
    for word in command.split():
        leaf = leaf.commands()[word]
    text = leaf.format_help() if command != "train" else shown(["train", "--help-all"], capsys, monkeypatch)
    assert max(map(len, text.splitlines())) <= 100
    for action in leaf._actions:
        if action.option_strings and action.nargs != 0 and not action.required:
            start = text.index(f"\n  {action.option_strings[0]}")
            own = text[start : text.index("(default:", start)]
            assert own.count("\n  -") == 1, f"{action.option_strings[0]} shows no default"
    assert "(default: )" not in text
    examples = [
        shlex.split(line) for line in text.split("\nexamples:\n")[1].splitlines() if line.startswith("  progan ")
    ]
    assert examples
    for example in examples:
        assert example[1 : len(command.split()) + 1] == command.split()
        parser().parse_args(example[1:])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["train", "mnist32", "--help-all"], ["sample", "--help"], ["--version"]],
)
def test_help_is_there_without_torch(arguments):
    lines = ["import sys", "from progan.cli import main", "sys.argv = ['progan']"]
    lines += [f"try: main({arguments})", "finally: print('torch' in sys.modules)"]
    code = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "progan" in done.stdout


def test_cache_is_listed_and_cleared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
    main(["train", *TINY, "--total-kimg", "0.01", "--quiet", "--out", str(tmp_path / "run")])
    assert main(["cache", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert entry["complete"]
    assert main(["cache", "clear"]) == 0
    assert main(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["entries"] == []


def prepared(folder, count=24):
    """A prepared dataset of avatars."""
    prepare(f"avatars:{count}", folder, PrepareConfig(resolution=8, workers=0))
    return folder


@pytest.mark.slow
def test_a_run_and_its_images_may_move(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    prepared(Path("here"))
    settings = [each for each in TINY if each not in ("--data", "avatars:32")]
    assert main(["train", "--data", "here", "--out", "run", *settings, "--total-kimg", "0.1", "--quiet"]) == 0
    there = tmp_path / "there"
    there.mkdir()
    Path("here").rename(there / "images")
    Path("run").rename(there / "moved")
    monkeypatch.chdir(there)
    # What needs the images says that they are not where they were.
    for command in (["evaluate", "moved"], ["train", "--out", "moved", "--total-kimg", "0.2", "--allow-change"]):
        assert main(command) == 2
        assert "the images of moved are no longer in here. Name them with --data" in capsys.readouterr().err
    go_on = ["train", "--out", "moved", "--data", "images", "--total-kimg", "0.2", "--allow-change"]
    assert main(go_on) == 0
    assert "warning: no report" not in capsys.readouterr().err
    # The new place is in config.json, from which other commands take it; it is no entry of the history.
    config, data = RunFolder(Path("moved")).read()
    assert (config.dataset.data, Path(data.path)) == ("images", Path("images"))
    (change,) = RunFolder(Path("moved")).changes()
    assert change["changes"] == ["total-kimg: 0.1 -> 0.2"]
    assert main(["train", "--out", "moved", "--total-kimg", "0.3", "--allow-change", "--quiet"]) == 0
    assert main(["report", "moved", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reals"]


def test_one_image_leaves_statistics_that_are_json(tmp_path, monkeypatch, recwarn):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    folder = prepared(tmp_path / "one", count=1)
    settings = [*TINY, "--data", str(folder), "--total-kimg", "0.1", "--quiet"]
    assert main(["train", "--out", str(tmp_path / "run"), *settings]) == 0
    assert not [each for each in recwarn if "degrees of freedom" in str(each.message)]

    def refuse(constant):
        raise AssertionError(constant)

    for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines():
        assert "health/variety" not in json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize(
    ("out", "written", "kind"),
    [
        ("x.png", "x.png", "PNG"),
        ("x.JPG", "x.JPG", "JPEG"),
        ("x.webp", "x.webp", "WEBP"),
        ("new/", "new/generated.png", "PNG"),
        (".", "generated.png", "PNG"),
    ],
)
def test_the_suffix_of_a_picture_is_its_format(run, out, written, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(run), "--num", "4", "--out", out]) == 0
    assert written in capsys.readouterr().out
    with Image.open(written) as image:
        assert (image.format, image.size) == (kind, (16, 16))
        said = image.text["seed"] if kind == "PNG" else image.getexif()[ExifTags.Base.ImageDescription]
    assert said.endswith("0,1,2,3")


@pytest.mark.parametrize(
    "command",
    [
        "sample RUN --out x.gif",
        "sample RUN --out x",
        "sample RUN --separate --out x.png",
        "report RUN --out x.pdf",
        "evaluate RUN --neighbours x.txt",
        "data show avatars:8 --html x.json",
    ],
)
def test_a_name_of_no_known_kind_is_refused_and_nothing_is_written(run, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [str(run) if word == "RUN" else word for word in command.split()]
    assert main(words) == 2
    assert words[-1] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
