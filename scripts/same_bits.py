"""Shows that two trees of this project do the same: for changes of the code that must change nothing it computes.

    git worktree add /tmp/old COMMIT
    python scripts/same_bits.py /tmp/old [NEW_TREE] [--only PATTERN] [--compiled] [--kimg X] [--keep DIR]

Runs the same commands with both trees, each in a folder of its own, and compares every file they leave behind, but for
times and the like (UNLIKE, UNREAD). Options that only the new tree has, and other words for people, are named but do
not count. A line a case; exit code 1 if one differs. With `--keep` the results of the old tree are kept, and the next
call runs the new tree alone.
"""

import argparse
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
UNLIKE = {"elapsed", "seconds", "data_wait", "data_wait_frac", "img_per_sec", "peak_memory", "key", "sha256", "notices"}
"""Fields of JSON that may differ: times, memory, digests of times and places, and words for people."""
UNREAD = r"/tensorboard/|/report\.html$"
"""Files with times all over."""

# Five stages of `part` each; `tick` is a tenth of them all, and `stop` in the middle of the last fade.
RUN = "train --batch-size 8 --device cpu --compile off --seed 3 --tick-kimg {tick}"
STAGES = "--resolution 16 --stable-kimg {part} --fade-kimg {part}"
PROGAN = f"{RUN} {STAGES} --z-dim 16 --fmap-base 128 --fmap-max 16"
FP32 = f"{PROGAN} --precision fp32 --data prepare/train --mirror"
BF16 = f"{PROGAN} --precision bf16 --data prepare/faces --labels"
EAGER = f"{PROGAN} --precision fp32 --data prepare/classes --labels --batch-norm 0.1 --d-noise 0.2 --loss lsgan"
DCGAN = f"{RUN} {STAGES} --start-resolution 16 --data prepare/classes --model dcgan --width 8"
GROWING = f"{RUN} {STAGES} --start-resolution 8 --data prepare/faces --model growing-batchnorm --fmap-base 128"
HELP = "train,prepare,data show,data split,cache list,cache clear,sample,evaluate,compare,report,import,doctor"

# A command a line. Where a path names another case, that comes first; `../old` is where the old tree works, whose runs
# both trees read there. Before a colon: `two` processes; or `begun`: so begins, by the old tree, the run that the new
# tree continues and the old one makes in one go; of these the last files are compared.
CASES = {
    "help": "\n".join(f"{command} --help" for command in HELP.split(",")),
    "prepare": """
        prepare avatars:300 prepare/faces --resolution 32 --json
        prepare images prepare/classes --resolution 16 --json
        prepare images prepare/grey --grey --crop none --labels none --max-images 40 --background red --json
        prepare images prepare/images.zip --to stylegan-zip --rgb --labels labels.csv --workers 1 --json
        prepare prepare/faces prepare/faces.zip --to stylegan-zip --json
        prepare prepare/images.zip prepare/back --json
        data split prepare/faces prepare/train prepare/held-out --count 90 --seed 1 --json
        data show prepare/classes --json --verify --sheets prepare/sheets --html prepare/page.html
        data show prepare/faces""",
    "fp32": f"{FP32} --out fp32/run --held-out prepare/held-out --snapshot-kimg {{tick}} "
    "--metrics-kimg {part} --metrics-num 90",
    "bf16": f"{BF16} --out bf16/run",
    "fp16": f"{PROGAN} --precision fp16 --data prepare/classes --resolution 8 --total-kimg {{tick}} "
    "--stable-kimg 0.04 --fade-kimg 0.04 --out fp16/run",
    "eager": f"{EAGER} --out eager/run",
    "options": f"{PROGAN} --precision fp32 --data prepare/grey --resolution 8 --no-fused-scale --no-use-wscale "
    "--pixel-norm both --no-normalize-latents --mbdisc-kernels 4 --mbstd-group 0 --layer-norm --g-activation relu "
    "--tanh --loss nonsaturating --r1-weight 1 --d-steps 2 --d-lr 0.003 --schedule-every 4 --out options/run",
    "dcgan": f"""
        {DCGAN} --precision fp32 --loss lsgan --dropout 0.25 --rescue --out dcgan/lsgan
        {DCGAN} --precision bf16 --loss nonsaturating --labels --out dcgan/nonsaturating""",
    "growing-batchnorm": f"{GROWING} --precision bf16 --loss nonsaturating --out growing-batchnorm/run",
    "two": f"two: {BF16} --mirror --out two/run",
    "two-eager": f"two: {DCGAN} --precision fp32 --loss nonsaturating --labels --dropout 0.25 --out two-eager/run",
    "continued": f"""
        begun: {BF16} --out continued/run --total-kimg {{stop}}
        {BF16} --out continued/run --total-kimg {{kimg}} --allow-change""",
    "continued-eager": f"""
        begun: {EAGER} --out continued-eager/run --total-kimg {{stop}}
        {EAGER} --out continued-eager/run --total-kimg {{kimg}} --allow-change""",
    "sample": """
        sample ../old/fp32/run --num 7 --truncation 0.7 --columns 3 --out sample/grid.png --json
        sample ../old/fp32/run --seeds 3,9-11 --separate --out sample/separate
        sample ../old/bf16/run --label hat=cap,glasses=none --label hat=none --num 3 --out sample/attributes.png
        sample ../old/eager/run --resolution 8 --num 2 --out sample/classes.png""",
    "evaluate": "evaluate ../old/fp32/run --num 90 --held-out prepare/held-out --neighbours evaluate/neighbours.png "
    "--json --metrics swd,ms-ssim-excess,precision-recall,density-coverage,modes,neighbours,spectrum,extremes",
    "import": """
        import {old}/tests/reference/network-final-small-nosrc.pkl import/network.safetensors
        sample import/network.safetensors --num 2 --out import/sample.png""",
    "compiled": f"{FP32} --resolution 8 --total-kimg {{part}} --compile on --out compiled/run",
}


class Tree(NamedTuple):
    """A checkout and where it works; where its results are kept, or what begins the runs that it continues, if any."""

    code: Path
    folder: Path
    kept: Path | None = None
    begun_by: Path | None = None


def pictures(folder: Path) -> None:
    """`images`, of two classes and many sizes, some grey or see-through, one broken; `labels.csv` with other labels."""
    rng, lines = random.Random(0), ["file,label"]
    for i in range(60):
        name = f"{'ab'[i % 2]}/{i:02}.png"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        mode, bands = (("RGB", 3), ("L", 1), ("RGBA", 4))[i % 3 if i < 9 else 0]
        image = Image.frombytes(mode, (4, 4), rng.randbytes(16 * bands))
        image = image.resize((rng.randint(12, 40), rng.randint(12, 40)), Image.Resampling.BICUBIC)
        image.save(folder / "images" / name)
        lines.append(f"{name},{'xyz'[i % 3]}")
    (folder / "images" / "a" / "broken.png").write_bytes(rng.randbytes(100))
    (folder / "labels.csv").write_text("\n".join(lines))


def run(case: str, commands: str, tree: Tree) -> None:
    """The commands of a case, or what is kept of them. What they print becomes files too, and so do warnings in it."""
    folder, kept = tree.folder / case, tree.kept and tree.kept / case
    if kept and kept.exists():
        shutil.copytree(kept, folder)
        return
    folder.mkdir()
    for i, line in enumerate(commands.strip().splitlines()):
        way, command = re.fullmatch(r" *(?:(two|begun): )?(.*)", line).groups()
        code = tree.begun_by if way == "begun" else tree.code
        if code is None:
            continue
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if way == "two" else []
        words = [sys.executable, *launcher, "-m", "progan", *command.split()]
        places = {"PYTHONPATH": str(code / "src"), "PROGAN_CACHE": str(tree.folder / "cache")}
        places["TORCHINDUCTOR_CACHE_DIR"] = str(tree.folder / "compiled kernels")
        environment = {**os.environ, **places, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        done = subprocess.run(words, cwd=tree.folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            said = re.findall(r"^(?:\w+Error|progan): .*", done.stderr, re.MULTILINE) or done.stderr.splitlines()
            raise RuntimeError(
                f"`{command.split()[0]}` ({i}) of {code} ended with {done.returncode}: {' '.join(said[-1:])}"
            )
        warnings = [text for text in done.stderr.splitlines(True) if text.startswith(("warning", "note"))]
        (folder / f"{i}-printed.{'json' if '--json' in words else 'txt'}").write_text(done.stdout)
        (folder / f"{i}-warned.txt").write_text("".join(warnings))
    if kept:
        shutil.copytree(folder, part := kept.with_name(f"{case}.{os.getpid()}"))
        part.rename(kept)


def files(folder: Path, continued: bool) -> dict[str, bytes]:
    """What is to be compared: all but states on the way, whose times the clock decides; of continued runs, the end."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    last = {path.parent: path for path in paths if path.parent.name in ("state", "snapshots")}
    paths = [path for path in paths if path.parent.name != "state" or path == last[path.parent]]
    found = {path.relative_to(folder).as_posix(): path for path in (last.values() if continued else paths)}
    return {name: path.read_bytes() for name, path in found.items() if not re.search(UNREAD, f"/{name}")}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value in JSON and its path there, without those of UNLIKE; a text that is JSON again is opened."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        value = json.loads(value)
    if not isinstance(value, dict | list):
        yield name, json.dumps(value)
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if key not in UNLIKE:
            yield from leaves(each, f"{name}.{key}".lstrip("."))


def opened(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and metadata of a .safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:end])
    metadata = dict(leaves(entries.pop("__metadata__", {})))
    spans = {name: slice(*(end + at for at in entry["data_offsets"])) for name, entry in entries.items()}
    return {name: (each["dtype"], each["shape"], content[spans[name]]) for name, each in entries.items()}, metadata


def some(names: Iterable[str], between: str = ", ") -> str:
    """The first three, and how many more there are."""
    names = sorted(names)
    return between.join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def apart(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The names that do not have the same value in both; options that only the new tree has are left out."""
    added = {name for name in new.keys() - old.keys() if re.search(r"(^|\.)config\.", name)}
    return some(name for name in (old.keys() | new.keys()) - added if old.get(name) != new.get(name))


def difference(name: str, old: bytes, new: bytes) -> tuple[str, bool]:
    """How two files differ, in words, and whether it counts: in words for people, or in metadata alone, it does not."""
    if old == new:
        return "", False
    if name.endswith((".html", ".txt")):
        return f"{name}: other words", False
    if name.endswith(".png"):  # whose text has the digest of a snapshot with its metadata
        same = Image.open(io.BytesIO(old)).tobytes() == Image.open(io.BytesIO(new)).tobytes()
        return f"{name}: {'other text' if same else 'other pixels'}", not same
    if name.endswith(".safetensors"):
        weights, metadata = map(apart, opened(old), opened(new))
        said = f"weights differ in {weights}" if weights else "weights equal"
        said += f", metadata differs in {metadata}" if metadata else ""
        return f"{name}: {said}" if weights or metadata else "", bool(weights) or bool(
            metadata and "/state-" not in name
        )
    if name.endswith((".json", ".jsonl")):
        texts = [b"[%s]" % b",".join(text.splitlines()) if name.endswith("l") else text for text in (old, new)]
        fields = apart(*(dict(leaves(json.loads(text))) for text in texts))
        return f"{name}: {fields}" if fields else "", bool(fields)
    return f"{name}: other bytes", True


def check(case: str, commands: str, old: Tree, new: Tree, needs: list[Future[bool]]) -> bool:
    """Run a case with both trees once what it needs is there, say how they differ, and return whether they do not."""
    for need in needs:
        need.result()
    times = [time.perf_counter()]
    try:
        for tree in (old, new):
            run(case, commands, tree)
            times.append(time.perf_counter())
        olds, news = (files(tree.folder / case, "begun:" in commands) for tree in (old, new))
        found = [difference(name, olds[name], news[name]) for name in olds.keys() & news.keys()]
        found += [(f"{name}: only one tree's", True) for name in olds.keys() ^ news.keys()]
    except (RuntimeError, ValueError) as error:
        print(f"{case}: DIFFERENT: {error}", flush=True)
        return False
    unequal = any(counts for _, counts in found)
    said = some((said for said, counts in found if said and counts >= unequal), "; ")
    took = f"{len(olds)} files, {times[1] - times[0]:.0f} + {times[2] - times[1]:.0f} s"
    print(f"{case}: {'DIFFERENT' if unequal else 'equal'}{said and ': ' + said} ({took})", flush=True)
    return not unequal


def keeper(folder: Path | None, tree: Path, kimg: float) -> Path | None:
    """Where what the old tree makes is kept: by its commit, this script and the length of runs."""
    git = ["git", "-C", str(tree), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    if folder is None or not commit or commit.endswith("-dirty"):
        return None
    return folder / f"{commit}-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]}-{kimg:g}"


def main() -> int:
    """Run the cases, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="another checkout")
    parser.add_argument("new", type=Path, nargs="?", default=ROOT, help="the checkout to be tested [this one]")
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose names hold this regular expression")
    parser.add_argument("--compiled", action="store_true", help="also a run with compiled steps, which takes minutes")
    parser.add_argument("--kimg", type=float, default=1.0, metavar="X", help="length of the runs [1]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep there what the old tree makes")
    options = parser.parse_args()
    for tree in (options.old, options.new):
        if not (tree / "src" / "progan").is_dir():  # or the installed one would be run
            parser.error(f"{tree} is no checkout")
    code, kept = options.old.resolve(), keeper(options.keep, options.old, options.kimg)
    shares = {"kimg": 1, "part": 0.2, "tick": 0.1, "stop": 0.7}
    values = {"old": code, **{name: f"{share * options.kimg:g}" for name, share in shares.items()}}
    chosen: list[str] = []
    for case in reversed(CASES):
        wanted = re.search(options.only, case) and (options.compiled or case != "compiled")
        if wanted or any(re.search(f"[ /]{case}/", CASES[other]) for other in chosen):
            chosen.insert(0, case)
    with tempfile.TemporaryDirectory() as folder:
        old = Tree(code, Path(folder, "old"), kept=kept)
        new = Tree(options.new.resolve(), Path(folder, "new"), begun_by=code)
        for tree in (old, new):
            pictures(tree.folder)
        pool, futures = ThreadPoolExecutor(2), {}
        try:
            for case in chosen:
                needs = [future for other, future in futures.items() if re.search(f"[ /]{other}/", CASES[case])]
                futures[case] = pool.submit(check, case, CASES[case].format(**values), old, new, needs)
            equal = sum(future.result() for future in futures.values())
        finally:
            pool.shutdown(cancel_futures=True)
    print(f"{equal} of {len(chosen)} cases equal")
    return 0 if 0 < equal == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
