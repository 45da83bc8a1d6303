"""`progan submit`: the files that targets get, read back by what reads them there."""

import argparse
import copy
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

import progan
from progan.cli import main
from progan.cli.base import Parser, written
from progan.cli.train import add_arguments, run
from progan.commands import AzureConfig, KubernetesConfig, SkypilotConfig, SlurmConfig
from progan.errors import ConfigError
from progan.submit import azure, kubernetes, skypilot, slurm, wheel
from progan.submit.base import Raw, Work, option, shell, yaml

AWKWARD = [
    "a b",
    "it's",
    '"q"',
    "$HOME",
    "$(touch x)",
    "`id`",
    "a\nb",
    "\\",
    "",
    "*",
    "~",
    "é😀",
    "a;b&c|d",
    "--x",
    "${{x}}",
]
TINY = (
    "--data avatars:32 --resolution 8 --stable-kimg 0.2 --fade-kimg 0.2 --tick-kimg 0.05 --batch-size 8 --fmap-max 8 "
    "--fmap-base 64 --z-dim 8 --device cpu --precision fp32 --compile off"
).split()
words = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8), max_size=6)


def work(out: str = "runs/faces", **inputs: str) -> Work:
    inputs = {f"--{name.replace('_', '-')}": place for name, place in inputs.items()}
    return Work("train", ("folder128", "--lr", "0.002"), out, inputs)


def printed(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert main(["submit", *shlex.split(command), "--dry-run"]) == 0
    return capsys.readouterr().out


# What a shell, YAML and the parser make of words


def shell_words(line: str, **variables: str) -> list[str]:
    done = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, env=variables, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=30)
@given(words.filter(bool))
def test_a_shell_gets_the_words_that_were_given(given_words: list[str]) -> None:
    assert shell_words(shell(given_words)) == given_words


def test_a_shell_gets_awkward_words_and_expands_only_what_it_is_to() -> None:
    assert shell_words(shell(AWKWARD)) == AWKWARD
    assert shell_words(shell([Raw('"$A"'), "$A"]), A="x y") == ["x y", "$A"]


trees = st.recursive(
    st.text() | st.integers(-9, 9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), trees, min_size=1, max_size=4).filter(lambda tree: max(str(tree)) < "\ud800"))
def test_yaml_is_read_back(tree: dict[str, Any]) -> None:
    assert pyyaml.safe_load(yaml(tree)) == tree


def test_yaml_of_awkward_text_is_read_back() -> None:
    odd = {
        "no": "no",
        "a": "\u2028\u0085\ufeff\x7f\t",
        "b": ["1e3", "null", "- x", ": "],
        "c": [{"d": []}, [1, [2]], {}],
        "yes": True,
    }
    assert pyyaml.safe_load(yaml(odd)) == odd


def test_the_words_of_a_command_line_say_what_it_said() -> None:
    parser = Parser(run, prog="progan train")
    add_arguments(parser)
    line = ["mnist32", "--lr=-1", "--no-labels", "--mirror", "--quiet", "--out", "a b", "--for", "2h", "--leak", "0.1"]
    line += ["--minutes", "-60"]
    first = parser.parse_args(line)
    again = written(parser, first)
    assert vars(parser.parse_args(again)) == vars(first)
    assert again[0] == "mnist32"
    assert "--lr=-1" in again
    assert "--out" not in written(parser, first, leave=["out"])


@pytest.mark.parametrize("value", AWKWARD)
def test_a_value_stays_a_value(value: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    assert parser.parse_args(option("--out", value)).out == value


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("slurm mnist32 --data x", "name the run folder with --out"),
        ("slurm mnist32 --out y", "preset mnist32 needs images"),
        ("slurm --out y --lrr 3", "there is no option --lrr; did you mean --lr? See `progan train --help`"),
        ("slurm --out y --lr fast", "--lr: 'fast' is neither"),
        ("slurm --out y --gp-weight 3 --loss lsgan", "--gp-weight belongs to loss wgan-gp"),
        ("slurm --compare --out y --data x", "how long is each run?"),
        ("slurm --compare --out y --data x --budget-kimg 3 --gpus 2", "a comparison trains on one GPU"),
        ("slurm --compare --out y --data x --budget-kimg 3 --array 0-3", "--array gives each run"),
        ("slurm --compare --data x --lr 3 --out y", "--lr is an option of `progan train`, not of `progan compare`"),
        ("slurm --out y --seed 3 --array 0-3", "leave out --seed"),
        ("slurm --out y --array a", "--array must be seeds"),
        ("slurm --out y --gpus -1", "--gpus must be at least 0"),
        ("slurm --out y --hosts 0", "--hosts must be at least 1"),
        ("slurm --out y --stop-before 0", "--stop-before must be at least 1"),
        ("slurm --out y --time 5", "--time 5 leaves no time: give at least 7 minutes"),
        ("slurm --out y --time soon", "--time must be a limit such as 90"),
        ("slurm --out y --claim w", "--claim is an option of"),
        ("kubernetes --out y", "--claim"),
        ("azure --out y --data no/where", "no/where does not exist here"),
        ("azure --out y --held-out no/where", "no/where does not exist here"),
        ("azure --out y --data photographs", "photographs does not exist here"),
        ("azure --out y --data avatars64", "avatars64 does not exist here"),
        ("azure --out y --init avatars65", "avatars65 does not exist here"),
        ("azure --out y --data mnist", "the job does not have mnist: `progan prepare mnist DIR` here and name DIR, or"),
        ("azure --out y --data celeba --download", "the job does not have celeba: `progan prepare celeba DIR` here"),
        ("azure --out y --data avatars:32 --held-out mnist --download", "the job does not have mnist"),
        ("azure --compare --out y --data mnist --budget-kimg 3", "prepare mnist DIR` here and name DIR\n"),
        ("azure --out y --data mnist=x --download", "the job does not have mnist=x"),
        ("skypilot --out y --bucket s3://b --data hf:a/b", "the job does not have hf:a/b"),
        ("azure --out y --data '${{inputs.a}}'", "${{inputs.a}} is nothing that the job defines; there are outputs"),
        ("azure --out y --label-column '${{ secrets.x }}'", "is nothing that the job defines"),
        ("azure --out y --workspace w", "go together"),
        ("skypilot --out y", "--bucket"),
        ("skypilot --out y --bucket mine", "--bucket must be an address"),
        ("skypilot --out y --bucket https://a.blob.core.windows.net", "--bucket must be an address"),
        ("slurm --out ''", "name the run folder with --out"),
        ("slurm --out y --for abc", "--for must be a duration"),
        ("slurm --out y --minutes -5", "--minutes must be above 0"),
        ("slurm --out y --minutes 5 --total-kimg 5", "Give either --minutes or --total-kimg"),
        ("slurm --out y --partiton gpu", "there is no option --partiton; did you mean --partition?"),
        ("slurm --out y --gpu 2", "did you mean --gpus?"),
        ("slurm --out y --hots 2", "did you mean --hosts?"),
        ("slurm --out y --batch-szie 2", "did you mean --batch-size?"),
        ("slurm --compare --out y --data x --budget-kimg 1 --models dcgam", "no preset 'dcgam'; did you mean dcgan"),
        ("slurm --compare --out y --data x --budget-kimg 1 --models 'progan --lr x'", "--lr: 'x' is neither"),
        ("slurm --compare --out y --data x --budget-kimg 1 --metrics swdd", "no metric 'swdd'; did you mean swd?"),
        ("azure --out y --data stacked:digits.gz", "the job does not have stacked:digits.gz: `progan prepare"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["submit", *shlex.split(arguments), "--dry-run"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("target", "program"),
    [("slurm", "sbatch"), ("kubernetes --claim w", "kubectl"), ("skypilot --bucket s3://b", "sky")],
)
def test_a_program_that_is_missing_or_refuses_is_one_line(
    target: str, program: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", *target.split(), "--out", "y"]) == 2
    assert f"there is no `{program}` here" in capsys.readouterr().err
    stand_in(tmp_path / program, "echo chatter >&2; echo not today >&2; exit 1")
    assert main(["submit", *target.split(), "--out", "y"]) == 2
    assert capsys.readouterr().err == f"progan: {program} refused the job: not today\n"


def test_a_dry_run_needs_neither_torch_nor_an_extra(tmp_path: Path) -> None:
    blocked = ["torch", "azure", "yaml", "sky", "kubernetes", "kubernetes_validate"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\nfrom progan.cli import main\n"
    code += "for words in ('slurm', 'kubernetes --claim w', 'azure', 'skypilot --bucket s3://b'):\n"
    code += "    assert main(['submit', *words.split(), '--out', 'y', '--dry-run']) == 0"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("progan train") == 3  # the fourth has a list of words
    assert list(tmp_path.iterdir()) == []


# SLURM


def stand_in(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `sbatch` leaves its arguments, and `python` its own, until it is told to stop."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stand_in(tmp_path / "sbatch", f'printf "%s\\0" "$@" >> {tmp_path}/submitted; echo Submitted batch job 1')
    trap = f'trap "touch {tmp_path}/saved; exit 143" TERM'
    stand_in(tmp_path / "python", f'{trap}\nprintf "%s\\0" "$@" > {tmp_path}/arguments\nsleep 60 & wait')
    return tmp_path


def until(condition: Callable[[], Any], seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def started(script: str, folder: Path, **variables: str) -> "subprocess.Popen[bytes]":
    """A batch script as SLURM starts it: a copy of it, somewhere else."""
    (folder / "spooled").write_text(script)
    job = subprocess.Popen(["bash", str(folder / "spooled")], cwd="/", env={**os.environ, **variables})
    until(lambda: (folder / "arguments").exists() and (folder / "arguments").read_bytes())
    return job


def left(path: Path) -> list[str]:
    return path.read_text().split("\0")[:-1]


def test_slurm_gets_the_script_and_the_script_the_arguments(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = "runs/" + "".join(word for word in AWKWARD if "\n" not in word).replace("/", "")
    arguments = ["--gpus", "0", "--python", f"{cluster}/python", "--mirror", "--data", "a $b's", "--out", out]
    assert main(["submit", "slurm", "folder128", *arguments]) == 0
    script = cluster / out / "job.sbatch"
    assert left(cluster / "submitted") == [str(script)]
    assert "Submitted batch job 1" in capsys.readouterr().out
    job = started(script.read_text(), cluster)
    job.terminate()
    assert job.wait(400) == 143
    place = str(cluster / out)
    assert left(cluster / "arguments") == [
        "-m",
        "progan",
        "train",
        "folder128",
        "--mirror",
        "--data",
        "a $b's",
        "--out",
        place,
    ]


def test_before_its_time_limit_a_job_saves_and_submits_itself_again(cluster: Path) -> None:
    config = SlurmConfig(gpus=0, python=str(cluster / "python"))
    text = slurm.describe(work("a b"), config)
    assert "#SBATCH --signal=B:USR1@300\n" in text
    job = started(text, cluster)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(400) == 0
    assert (cluster / "saved").exists()
    assert left(cluster / "submitted") == [str(cluster / "a b" / "job.sbatch")]


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_signal_before_training_has_started_is_not_lost(cluster: Path, name: str) -> None:
    config = SlurmConfig(gpus=0, python=str(cluster / "python"), setup=f"kill -{name} $$")
    (cluster / "spooled").write_text(slurm.describe(work(), config))
    job = subprocess.run(["bash", str(cluster / "spooled")], cwd="/", timeout=400)
    assert job.returncode == (0 if name == "USR1" else 143)
    assert (cluster / "submitted").exists() == (name == "USR1")


def test_a_job_that_is_cancelled_saves_and_is_not_submitted_again(cluster: Path) -> None:
    job = started(slurm.describe(work(), SlurmConfig(gpus=0, python=str(cluster / "python"))), cluster)
    job.terminate()
    assert job.wait(400) == 143
    assert (cluster / "saved").exists()
    assert not (cluster / "submitted").exists()


def test_a_job_that_fails_is_not_submitted_again(cluster: Path) -> None:
    stand_in(cluster / "python", f"echo -n x > {cluster}/arguments; exit 3")
    job = started(slurm.describe(work(), SlurmConfig(gpus=0, python=str(cluster / "python"))), cluster)
    assert job.wait(400) == 3
    assert not (cluster / "submitted").exists()


def test_each_run_of_an_array_has_its_seed_and_folder_and_is_submitted_again_by_itself(cluster: Path) -> None:
    text = slurm.describe(work("a b"), SlurmConfig(gpus=0, array="1,3-4", python=str(cluster / "python")))
    assert "#SBATCH --array=1,3-4\n" in text
    job = started(text, cluster, SLURM_ARRAY_TASK_ID="3")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(400) == 0
    assert left(cluster / "arguments")[-4:] == ["--out", str(cluster / "a b" / "seed-3"), "--seed", "3"]
    assert left(cluster / "submitted") == ["--array=3", str(cluster / "a b" / "job.sbatch")]


def test_each_run_of_an_array_has_its_copy(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"slurm --out y --gpus 0 --array 1-2 --python {cluster}/python --copy-to 's3://b/a b/'"
    job = started(printed(capsys, line), cluster, SLURM_ARRAY_TASK_ID="2")
    job.terminate()
    job.wait(400)
    assert left(cluster / "arguments")[-2:] == ["--copy-to", "s3://b/a b/seed-2"]


def test_several_hosts_meet_at_the_first_one(cluster: Path) -> None:
    stand_in(cluster / "scontrol", "[ \"$*\" = 'show hostnames n[1-2]' ] && printf 'n1\\nn2\\n'")
    stand_in(cluster / "srun", '[ "$1 $2" = "--kill-on-bad-exit=1 --cpus-per-task=6" ] && shift 2 && exec "$@"')
    text = slurm.describe(work(), SlurmConfig(gpus=4, hosts=2, cpus=6, python=str(cluster / "python")))
    job = started(text, cluster, SLURM_JOB_NODELIST="n[1-2]", SLURM_JOB_ID="7")
    job.terminate()
    job.wait(400)
    meeting = "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint n1:29500 --rdzv-id 7 --nproc-per-node 4"
    assert left(cluster / "arguments")[:13] == ["-m", "torch.distributed.run", *meeting.split(), "-m"]


def test_time_limits_are_read_as_slurm_reads_them() -> None:
    limits = {"90": 5400, "90:30": 5430, "1:30:00": 5400, "2-12": 216000, "2-12:30": 217800, "1-0:0:1": 86401}
    assert {limit: slurm.seconds(limit) for limit in limits} == limits


@pytest.mark.long
@pytest.mark.slow
def test_a_run_cut_by_time_limits_equals_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    assert main(["train", *TINY, "--out", "whole", "--quiet"]) == 0
    stand_in(tmp_path / "sbatch", f'touch {tmp_path}/again; exec bash "$1"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    parser = Parser(run, prog="progan train")
    add_arguments(parser)
    text = slurm.describe(Work("train", tuple(TINY), "cut", {}), SlurmConfig(gpus=0))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "job.sbatch").write_text(text)
    job = subprocess.Popen(["bash", str(tmp_path / "cut" / "job.sbatch")])
    until(lambda: (tmp_path / "cut" / "stats.jsonl").exists())
    job.send_signal(signal.SIGUSR1)
    assert job.wait(400) == 0
    assert (tmp_path / "again").exists()
    names = {path.name for path in (tmp_path / "whole" / "snapshots").iterdir()}
    for name in names:
        assert (tmp_path / "cut/snapshots" / name).read_bytes() == (tmp_path / "whole/snapshots" / name).read_bytes()


# Kubernetes


def expanded(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of a word of a command (third_party/forked/golang/expansion of its source)."""
    result, i = "", 0
    while i < len(text):
        if text[i] == "$" and i + 1 < len(text):
            i += 1
            if text[i] == "$":
                result += "$"
            elif text[i] == "(" and ")" in text[i:]:
                end = text.index(")", i)
                name = text[i + 1 : end]
                result += variables.get(name, f"$({name})")
                i = end
            else:
                result += "$" + text[i]
        else:
            result += text[i]
        i += 1
    return result


@given(st.text("$()Ax ", max_size=9))
def test_kubernetes_expands_nothing(word: str) -> None:
    assert expanded(kubernetes.literal(word), {"A": "wrong"}) == word


def test_what_torchrun_started_has_as_long_to_save_as_the_job() -> None:
    """It would be killed after 30 seconds."""
    script = slurm.describe(work(), SlurmConfig(gpus=4, stop_before=300))
    assert "\nexport TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300\n" in script
    assert "TORCH_ELASTIC" not in slurm.describe(work(), SlurmConfig(gpus=1))
    for hosts, gpus, least in [(1, 1, None), (1, 4, 60), (2, 1, 60)]:
        job = kubernetes.job(work(), KubernetesConfig(claim="w", hosts=hosts, gpus=gpus))
        pod = (job["spec"] if hosts == 1 else job["spec"]["pytorchReplicaSpecs"]["Worker"])["template"]["spec"]
        variables = {each["name"]: each["value"] for each in pod["containers"][0].get("env", [])}
        if least is None:
            assert not variables
        else:
            assert least < int(variables["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("gpus", [1, 2])
def test_only_the_exit_codes_of_progan_itself_end_a_job_of_kubernetes(gpus: int) -> None:
    """torchrun's is 1 whatever happened."""
    rules = kubernetes.job(work(), KubernetesConfig(claim="w", gpus=gpus))["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"][: 3 - gpus]


def test_a_job_of_kubernetes_has_the_words_and_passes_the_schema() -> None:
    job = pyyaml.safe_load(kubernetes.describe(work("run $(HOME)", data="a b"), KubernetesConfig(claim="w", gpus=2)))
    container = job["spec"]["template"]["spec"]["containers"][0]
    launch = (
        "python -m torch.distributed.run --standalone --nproc-per-node 2 -m progan train folder128 --lr 0.002".split()
    )
    assert container["command"] == [*launch, "--data", "a b", "--out", "run $$(HOME)"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    validate = pytest.importorskip("kubernetes_validate", reason="pip install '.[test]'")
    for version in ("1.31", "1.34"):
        validate.validate(job, version, strict=True)
    for place, wrong in [(("spec", "retries"), 3), (("spec", "backoffLimit"), "x"), (("metadata",), [])]:
        with pytest.raises(validate.ValidationError):
            validate.validate(changed(job, place, wrong), "1.34", strict=True)


def test_a_pytorchjob_has_pods_that_pass_the_schema() -> None:
    job = pyyaml.safe_load(
        kubernetes.describe(work(data="x"), KubernetesConfig(claim="w", gpus=4, hosts=3, namespace="ml"))
    )
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert {name: replica["replicas"] for name, replica in replicas.items()} == {"Master": 1, "Worker": 2}
    assert job["spec"]["nprocPerNode"] == "4"
    assert job["metadata"]["namespace"] == "ml"
    validate = pytest.importorskip("kubernetes_validate", reason="pip install '.[test]'")
    for replica in replicas.values():
        assert [each["name"] for each in replica["template"]["spec"]["containers"]] == [
            "pytorch"
        ]  # the operator's name
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **replica["template"]}
        validate.validate(pod, "1.34", strict=True)


def test_on_kubernetes_a_copy_takes_the_place_of_a_claim(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "kubernetes --out runs/x --copy-to s3://mine/x --secret s3-key")
    pod = pyyaml.safe_load(text)["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][-4:] == ["--copy-to", "s3://mine/x", "--out", "runs/x"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "s3-key"}}]
    assert pod["volumes"][0] == {"name": "work", "emptyDir": {}}
    validate = pytest.importorskip("kubernetes_validate", reason="pip install '.[test]'")
    validate.validate(pyyaml.safe_load(text), "1.34", strict=True)
    for more in (["--copy-to", "folder"], ["--copy-to", "s3://mine/x", "--hosts", "2"]):
        assert main(["submit", "kubernetes", "--out", "y", *more, "--dry-run"]) == 2
        assert "--claim, or for one host object storage with --copy-to" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--copy-to s3://mine/x", "--copy-to=s3://mine/x"])
def test_what_writes_to_object_storage_has_its_packages(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    def azure_needs(more: str) -> list[str]:
        job = pyyaml.safe_load(printed(capsys, f"azure --out y --data avatars:32 {more}"))
        return list(job["environment"]["conda_file"]["dependencies"][-1]["pip"])

    plain, copying = azure_needs(""), azure_needs(given)
    assert set(copying) - set(plain) == {each for each in copying if re.match("fsspec|s3fs|gcsfs|adlfs", each)}
    assert any(each.startswith("s3fs") for each in copying)
    for more, package in (("", wheel.name()), (given, f"{wheel.name()}[cloud]")):
        task = pyyaml.safe_load(printed(capsys, f"skypilot --out y --bucket s3://b {more}"))
        assert shlex.split(task["setup"])[-1] == f"/progan/wheels/{package}"


def needs(task: dict[str, Any]) -> set[str]:
    """Names of the packages that a job of Azure installs."""
    listed = task["environment"]["conda_file"]["dependencies"][-1]["pip"]
    return {re.split("[<>=[]", each)[0].strip() for each in listed}


@pytest.mark.parametrize(
    ("arguments", "extra", "package"),
    [
        ("--data mnist --download", "hub", "datasets"),
        ("--data hf:a/b --download", "hub", "datasets"),
        ("--data avatars:32 --wandb faces", "wandb", "wandb"),
        ("--data one.parquet", "parquet", "pyarrow"),
        ("--data one.H5", "hdf5", "h5py"),
        ("--data tables", "parquet", "pyarrow"),
        ("--data avatars:32 --held-out one.hdf5", "hdf5", "h5py"),
    ],
)
def test_what_reads_images_and_reports_has_its_packages(
    arguments: str, extra: str, package: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    for name in ("one.parquet", "one.H5", "one.hdf5", "tables/part-0.parquet"):
        (tmp_path / name).touch()
    plain = needs(pyyaml.safe_load(printed(capsys, "azure --out y --data avatars:32")))
    job = pyyaml.safe_load(printed(capsys, f"azure --out y {arguments}"))
    assert needs(job) - plain == {package}
    task = pyyaml.safe_load(printed(capsys, f"skypilot --out y --bucket s3://b {arguments}"))
    assert shlex.split(task["setup"])[-1] == f"/progan/wheels/{wheel.name()}[{extra}]"
    # Where the job keeps what it downloads.
    expected = {"PROGAN_DATA": "/tmp/progan/data"} if extra == "hub" else None
    assert (job.get("environment_variables"), task.get("envs")) == (expected, expected)


def test_several_extras_are_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    line = "skypilot --out y --bucket s3://b --data mnist --download --wandb faces --copy-to s3://c"
    task = pyyaml.safe_load(printed(capsys, line))
    assert shlex.split(task["setup"])[-1] == f"/progan/wheels/{wheel.name()}[cloud,hub,wandb]"


def test_a_generator_of_the_package_goes_along_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    job = pyyaml.safe_load(printed(capsys, "azure --data avatars:32 --init avatars64 --out y"))
    assert " --init avatars64 " in job["command"]
    assert "inputs" not in job


def test_two_runs_have_two_folders(capsys: pytest.CaptureFixture[str]) -> None:
    def folder(out: str) -> str:
        job = pyyaml.safe_load(printed(capsys, f"azure --data avatars:32 --out {shlex.quote(out)}"))
        return str(job["outputs"]["run"]["path"]).rstrip("/").rpartition("/")[2]

    assert folder("runs/My run") == "my-run"
    names = ["猫", "犬", "猫-1", "犬-1", "caf", "café", "x" * 50, "x" * 51, "x" * 52, "___", "-" * 60 + "a"]
    found = [folder(f"runs/{name}") for name in names]
    assert len(set(found)) == len(names)
    assert all(re.fullmatch("[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?", name) for name in found)


def changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place, or without it for None."""
    tree = copy.deepcopy(tree)
    inner = functools.reduce(lambda part, key: part[key], place[:-1], tree)
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return tree


# The wheel that goes along


def test_the_wheel_is_this_progan_and_is_installed_without_an_index(tmp_path: Path) -> None:
    path = wheel.write(tmp_path)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(tmp_path / "there"),
    ]
    subprocess.run([*pip, str(path)], check=True, capture_output=True)
    package, installed = Path(progan.__file__).parent, tmp_path / "there" / "progan"
    here = {
        each.relative_to(package) for each in package.rglob("*") if each.is_file() and "__pycache__" not in each.parts
    }
    assert {
        each.relative_to(installed) for each in installed.rglob("*") if each.suffix != ".pyc" and each.is_file()
    } == here
    assert all((installed / each).read_bytes() == (package / each).read_bytes() for each in here)
    code = (
        "import progan, sys; print(progan.__file__); from progan.cli import main; sys.exit(main(['submit', '--help']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.splitlines()[0]).parent == installed
    assert (tmp_path / "there" / "bin" / "progan").exists()


def test_nothing_of_the_name_is_taken_from_an_index() -> None:
    assert any(each.startswith("torch") for each in wheel.requirements())
    assert not any(each.startswith("progan") for each in wheel.requirements("cloud"))
    job = azure.job(work(), AzureConfig())
    assert job["command"].startswith(
        f"python -m pip install --no-index --no-deps --force-reinstall ./{wheel.name()} && "
    )
    task = skypilot.task(work(), SkypilotConfig(bucket="s3://b"), "w")
    assert task["setup"] == f"python3 -m pip install /progan/wheels/{wheel.name()}\n"


# Azure


@pytest.fixture(scope="module")
def sdk() -> Any:
    return pytest.importorskip("azure.ai.ml", reason="pip install '.[azure]'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images, and what lies beside a job."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "set.zip").touch()
    (tmp_path / "code").mkdir()
    return tmp_path


def loaded(sdk: Any, job: Any, folder: Path) -> Any:
    (folder / "job.yml").write_text(job if isinstance(job, str) else pyyaml.safe_dump(job), encoding="utf-8")
    found = sdk.load_job(folder / "job.yml")
    result = found._validate()
    assert result.passed, result.error_messages
    return found


def test_azure_accepts_the_job(sdk: Any, folder: Path) -> None:
    job = loaded(
        sdk,
        azure.describe(work("x/My run", data=str(folder / "photos"), held_out=str(folder / "set.zip")), AzureConfig()),
        folder,
    )
    run = 'exec python -m progan train folder128 --lr 0.002 --data "${{inputs.data}}" --held-out "${{inputs.held_out}}"'
    assert job.command.split(" && ")[1] == f'{run} --out "${{{{outputs.run}}}}"'
    assert (job.inputs["data"].type, job.inputs["held_out"].type) == ("uri_folder", "uri_file")
    assert job.outputs["run"].path == "azureml://datastores/workspaceblobstore/paths/progan/my-run/"
    assert job.queue_settings.job_tier.lower() == "spot"
    assert job.resources.instance_type == "Standard_NC24ads_A100_v4"
    cluster = loaded(
        sdk, azure.describe(work(data="azureml:photos:1"), AzureConfig(cluster="gpus", hosts=2, gpus=4)), folder
    )
    assert cluster.compute in ("gpus", "azureml:gpus")
    assert cluster.distribution.process_count_per_instance == 1
    assert "--nnodes 2 --node-rank" in cluster.command
    assert cluster.inputs["data"].path in ("photos:1", "azureml:photos:1")


def test_names_and_other_addresses_stay_arguments(folder: Path) -> None:
    for place in ("avatars:32", "s3://bucket/photos"):
        job = azure.job(work(data=place), AzureConfig())
        assert "inputs" not in job
        assert f"--data {place} " in job["command"]


BROKEN: list[tuple[str, Any]] = [
    ("command", None), ("command", ["x"]), ("command", "x ${{inputs.dta}}"), ("command", "${{outputs.model}}"),
    ("type", "comand"), ("environment", None), ("environment", 3), ("comand", "x"), ("code", "./nowhere"),
    ("environment conda_file", "nowhere.yml"), ("environment conda_file", ["torch"]), ("environment_variables", ["A"]),
    ("display_name", ["x"]), ("tags", "x"), ("identity", {"type": "nobody"}), ("resources", []), ("compute", 3),
    ("resources instances", 1), ("resources instance_count", "two"), ("resources instance_type", [1]),
    ("queue_settings job_tier", "cheap"), ("inputs", ["data"]), ("inputs data type", "folder"),
    ("inputs data mode", "rw"), ("outputs run type", "folder"), ("outputs run mode", "ro_mount"),
    ("distribution", {"type": "torch"}), ("distribution", {"type": "pytorch", "process_count_per_instance": "x"}),
    ("limits", {"timeout": "long"}), ("services", "x"),
]  # fmt: skip
"""What is wrong with a job: a place in it and another value, None for none."""


@pytest.mark.parametrize(("place", "wrong"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_job_is_refused(sdk: Any, folder: Path, place: str, wrong: Any) -> None:
    good = azure.job(work(data=str(folder / "photos")), AzureConfig())
    loaded(sdk, good, folder)
    bad = changed(good, tuple(place.split()), wrong)
    if "${{" in str(wrong):  # which the SDK lets through
        loaded(sdk, bad, folder)
        with pytest.raises(ConfigError, match=r"there are inputs\.data, outputs\.run"):
            azure.check(bad)
    else:
        with pytest.raises(Exception, match=r"alidation|Unsupported job type"):
            loaded(sdk, bad, folder)


def test_azure_gets_the_job_with_the_wheel(
    sdk: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("azure.identity", reason="pip install '.[azure]'")
    seen = []

    class Client:
        def __init__(self, credential: Any, *where: str) -> None:
            seen.append(where)
            self.jobs = self

        def create_or_update(self, job: Any) -> Any:
            seen.append([path.name for path in (job.base_path / job.code).iterdir()])
            if "refused" in job.display_name:
                raise RuntimeError("(QuotaExceeded) no cores left\nmore")
            return argparse.Namespace(name="brave_sky_1", studio_url="https://ml.azure.com/runs/brave_sky_1")

    monkeypatch.setattr(sdk, "MLClient", Client)
    monkeypatch.chdir(folder)
    where = ["--subscription", "s", "--resource-group", "g", "--workspace", "w"]
    assert main(["submit", "azure", "folder128", "--data", "photos", "--out", "run", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["submitted"].startswith("brave_sky_1\nhttps://")
    assert seen == [("s", "g", "w"), [wheel.name()]]
    assert main(["submit", "azure", "folder128", "--data", "photos", "--out", "refused", *where]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("progan: Azure refused the job: (QuotaExceeded) no cores left. ")
    )


# SkyPilot


def test_a_task_of_skypilot_has_data_wheel_and_bucket(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"skypilot folder128 --data {folder}/photos --out runs/x --bucket s3://mine/some/runs --hosts 2 --gpus 4"
    task = pyyaml.safe_load(printed(capsys, command))
    assert task["file_mounts"]["/progan/inputs/data/photos"] == str(folder / "photos")
    assert task["file_mounts"]["/progan/runs"] == {"source": "s3://mine", "mode": "MOUNT_CACHED"}
    found = shell_words(
        task["run"].removeprefix("exec "),
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
        SKYPILOT_NODE_RANK="1",
        PATH=os.environ["PATH"],
    )
    meeting = "--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500 --nproc-per-node 4"
    assert found[:14] == ["python3", "-m", "torch.distributed.run", *meeting.split(), "-m"]
    assert found[-4:] == ["--data", "/progan/inputs/data/photos", "--out", "/progan/runs/some/runs/x"]


@pytest.mark.parametrize(
    ("bucket", "source", "below"),
    [
        ("s3://mine", "s3://mine", ""),
        ("gs://mine/a/b/", "gs://mine", "a/b/"),
        ("https://acct.blob.core.windows.net/box/runs", "https://acct.blob.core.windows.net/box", "runs/"),
        ("cos://us-east/mine/x", "cos://us-east/mine", "x/"),
    ],
)
def test_a_bucket_is_mounted_whole(bucket: str, source: str, below: str, capsys: pytest.CaptureFixture[str]) -> None:
    task = pyyaml.safe_load(printed(capsys, f"skypilot --out x --bucket {bucket}"))
    assert task["file_mounts"]["/progan/runs"]["source"] == source
    assert f"--out /progan/runs/{below}x" in task["run"]


def test_the_folder_above_has_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "photos")
    task = skypilot.task(work(data=".."), SkypilotConfig(bucket="s3://b"), "wheels")
    assert task["file_mounts"][f"/progan/inputs/data/{folder.name}"] == str(folder)


def test_models_of_a_file_go_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models.txt").write_text("progan  # as it is\nsmooth = progan --loss lsgan\n")
    line = f"azure --compare --out c --data avatars:9 --budget-kimg 1 --models {tmp_path}/models.txt"
    assert "--models 'progan; smooth = progan --loss lsgan'" in printed(capsys, line)


@pytest.mark.skipif(importlib.util.find_spec("sky") is None, reason="SkyPilot is not installed, it has 500 MB")
def test_skypilot_accepts_the_task(folder: Path) -> None:
    import jsonschema
    from sky.utils import schemas

    task = pyyaml.safe_load(
        skypilot.describe(work(data=str(folder / "photos")), SkypilotConfig(bucket="s3://mine/runs", infra="aws"))
    )
    jsonschema.Draft202012Validator(schemas.get_task_schema()).validate(task)
    resources = jsonschema.Draft202012Validator(schemas.get_resources_schema())
    resources.validate(task["resources"])
    with pytest.raises(jsonschema.ValidationError):
        resources.validate({**task["resources"], "acclerators": 1})


# A real SLURM of one node, on the loopback interface

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port2}
AuthType=auth/munge
AuthInfo=socket={here}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={here}/state
SlurmdSpoolDir={here}/spool
SlurmctldPidFile={here}/slurmctld.pid
SlurmdPidFile={here}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MpiDefault=none
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@pytest.fixture(scope="module")
def real_slurm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """SLURM_CONF of a cluster that is this machine."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "scancel") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian's munge, slurmctld, slurmd, slurm-client)")
    if os.getuid() != 0:
        pytest.skip("SLURM's daemons are started as root")
    import socket

    here = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (here / name).mkdir()
    ports = []
    for _ in range(2):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    host = socket.gethostname().split(".")[0]
    facts = {"host": host, "here": here, "port": ports[0], "port2": ports[1], "cpus": os.cpu_count()}
    (here / "slurm.conf").write_text(CONFIGURATION.format(**facts))
    (here / "munge.key").write_bytes(os.urandom(1024))
    (here / "munge.key").chmod(0o600)
    own = {
        "key-file": "munge.key",
        "socket": "munge.socket",
        "pid-file": "munged.pid",
        "log-file": "munged.log",
        "seed-file": "seed",
    }
    munge = [f"--{name}={here / file}" for name, file in own.items()]
    environment = {**os.environ, "SLURM_CONF": str(here / "slurm.conf")}
    daemons = []
    try:
        for command in (
            ["munged", "--foreground", "--force", *munge],
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", host],
        ):
            with (here / f"{command[0]}.out").open("wb") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=here))
            until(lambda: (here / "munge.socket").exists())
        for _ in range(100):
            state = subprocess.run(
                ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True
            )
            if state.stdout.strip() == "idle":
                break
            time.sleep(0.2)
        else:
            pytest.skip(f"SLURM does not start here: {(here / 'slurmctld.out').read_text()[-300:]}")
        yield str(here / "slurm.conf")
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(400)


def queued() -> str:
    return subprocess.run(["squeue", "--noheader", "--format=%i %T"], capture_output=True, text=True, check=True).stdout


@pytest.mark.long
@pytest.mark.service
def test_a_real_slurm_trains_in_two_jobs(
    real_slurm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", real_slurm)
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "runs" / 'a b\'s $x 50% "q"'
    small = ["--gpus", "0", "--cpus", "1", "--memory", "1G", "--out", str(out)]
    assert main(["submit", "slurm", *TINY, "--stable-kimg", "2", *small]) == 0
    job = capsys.readouterr().out.split("Submitted batch job ")[1].split()[0]
    until(lambda: (out / "stats.jsonl").exists())
    subprocess.run(["scancel", "--signal=USR1", "--batch", job], check=True)
    until(lambda: queued() == "")
    logs = [(out / f"slurm-{int(job) + i}.log").read_text() for i in (0, 1)]
    assert "all saved" in logs[0]
    assert f"Submitted batch job {int(job) + 1}" in logs[0]
    assert "trained 4.2 kimg" in logs[1]
    assert main(["train", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"]


@pytest.mark.service
def test_a_real_slurm_runs_an_array(real_slurm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", real_slurm)
    monkeypatch.chdir(tmp_path)
    stand_in(tmp_path / "python", f'printf "%s\\n" "$*" >> {tmp_path}/arguments')
    small = ["--gpus", "0", "--cpus", "1", "--memory", "100M", "--array", "4,6", "--python", str(tmp_path / "python")]
    assert main(["submit", "slurm", "--out", "x", *small]) == 0
    until(lambda: queued() == "")
    expected = {f"-m progan train --out {tmp_path}/x/seed-{seed} --seed {seed}" for seed in (4, 6)}
    assert set((tmp_path / "arguments").read_text().splitlines()) == expected
