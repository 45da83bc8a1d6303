"""How fast a whole training iteration is: ours in each precision and compile mode, beside a plain fp32 one.

    python benchmarks/training_step.py OUT.json [--cases 32:128:16,64:128:8] [--threads 4] [--picture OUT.png]
        [--variants fp32,"fp32 compiled"] [--device cuda]

An iteration is: take a batch, D step with penalty, average of G, G step. All variants run in one process, in
alternation, and the medians are compared, so that what else the machine does weighs on all alike. The plain variant
is written below as one would write it without thinking of speed: straight PyTorch, contiguous memory, its own Adam.
Only the ratios mean something on another machine. A GPU is given several iterations at a time and then waited for; the
images lie in its memory, as they do in a run.
"""

import argparse
import datetime
import itertools
import json
import math
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.devices import keep_pages, send

CASES = {
    "cpu": "4:512:16,8:512:16,16:512:16,32:512:8,64:512:4,4:128:16,8:128:16,16:128:16,32:128:16,64:128:8",
    "cuda": "4:512:64,8:512:64,16:512:64,32:512:32,64:512:16,128:512:16,256:512:16,512:512:8,1024:512:4",
}
"""Resolution, fmap_max, batch size, and fmap_base if it is not the paper's."""
VARIANTS = {
    f"{precision}{' winograd' if winograd else ''}{' compiled' if compiled else ''}": (precision, winograd, compiled)
    for precision, winograd in (("fp32", False), ("fp32", True), ("tf32", False), ("bf16", False), ("fp16", False))
    for compiled in (False, True)
}
CHOSEN = {device: [f"{name}{how}" for name in names for how in ("", " compiled")] for device, names in (
    ("cpu", ("fp32", "fp32 winograd", "bf16")), ("cuda", ("tf32", "bf16")),
)}  # fmt: skip
"""Of the variants, those that are measured if no others are named."""
ROUND = {"cpu": 1, "cuda": 20}
"""Iterations between two looks at the clock."""
CHANNELS = 3
BASE = 8192
"""The paper's fmap_base."""


class Conv(nn.Module):
    def __init__(self, i: int, o: int, k: int, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(o, i, k, k)), nn.Parameter(torch.zeros(o))
        self.c, self.padding = gain / math.sqrt(i * k * k), k // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.c, self.bias, padding=self.padding)


class Dense(nn.Module):
    def __init__(self, i: int, o: int, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight, self.bias, self.c = nn.Parameter(torch.randn(o, i)), nn.Parameter(torch.zeros(o)), gain / i**0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.c, self.bias)


def norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def widths(resolution: int, fmap_max: int, fmap_base: int) -> list[int]:
    """Of 4, 8 … resolution."""
    return [min(2 * fmap_base // r, fmap_max) for r in (2**k for k in range(2, int(math.log2(resolution)) + 1))]


class PlainG(nn.Module):
    def __init__(self, resolution: int, fmap_max: int, fmap_base: int = BASE) -> None:
        super().__init__()
        w = widths(resolution, fmap_max, fmap_base)
        self.dense, self.conv = Dense(512, w[0] * 16, math.sqrt(2) / 4), Conv(w[0], w[0], 3)
        pairs = itertools.pairwise(w)
        self.blocks = nn.ModuleList(nn.ModuleList([Conv(a, b, 3), Conv(b, b, 3)]) for a, b in pairs)
        self.rgb = Conv(w[-1], CHANNELS, 1, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        x = norm(F.leaky_relu(self.dense(norm(z)), 0.2).view(len(z), -1, 4, 4))
        x = norm(F.leaky_relu(self.conv(x), 0.2))
        for first, second in self.blocks:
            x = norm(F.leaky_relu(first(F.interpolate(x, scale_factor=2)), 0.2))
            x = norm(F.leaky_relu(second(x), 0.2))
        return self.rgb(x)


class PlainD(nn.Module):
    def __init__(self, resolution: int, fmap_max: int, fmap_base: int = BASE) -> None:
        super().__init__()
        w = widths(resolution, fmap_max, fmap_base)
        self.rgb = Conv(CHANNELS, w[-1], 1)
        pairs = list(itertools.pairwise(w))
        self.blocks = nn.ModuleList(nn.ModuleList([Conv(b, b, 3), Conv(b, a, 3)]) for a, b in reversed(pairs))
        self.conv = Conv(w[0] + 1, w[0], 3)
        self.dense0, self.dense1 = Dense(w[0] * 16, w[0]), Dense(w[0], 1, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.rgb(x), 0.2)
        for first, second in self.blocks:
            x = F.leaky_relu(first(x), 0.2)
            x = F.avg_pool2d(F.leaky_relu(second(x), 0.2), 2)
        groups = x.reshape(min(4, len(x)), -1, *x.shape[1:])
        deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).repeat(len(groups))
        x = torch.cat([x, deviation.view(-1, 1, 1, 1).expand(-1, 1, 4, 4)], 1)
        x = F.leaky_relu(self.conv(x), 0.2)
        return self.dense1(F.leaky_relu(self.dense0(x.flatten(1)), 0.2)).squeeze(1)


class Plain:
    """The fp32 eager iteration that all others are compared with."""

    def __init__(self, resolution: int, fmap_max: int, batch: int, device: str, fmap_base: int) -> None:
        self.G, self.D = (
            PlainG(resolution, fmap_max, fmap_base).to(device),
            PlainD(resolution, fmap_max, fmap_base).to(device),
        )
        self.G_ema = PlainG(resolution, fmap_max, fmap_base).to(device)
        self.batch, self.device = batch, device
        self.g, self.d = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.0, 0.99)) for net in (self.G, self.D))

    def __call__(self, pixels: Tensor) -> None:
        reals = pixels.float() / 127.5 - 1
        fakes = self.G(torch.randn(self.batch, 512, device=self.device)).detach()
        u = torch.rand(self.batch, 1, 1, 1, device=self.device)
        mixed = (reals + (fakes - reals) * u).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.D(mixed).sum(), mixed, create_graph=True)
        penalty = 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
        real = self.D(reals)
        loss = self.D(fakes).mean() - real.mean() + 0.001 * real.square().mean() + penalty
        self.d.zero_grad()
        loss.backward()
        self.d.step()
        with torch.no_grad():
            for mine, theirs in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                mine.mul_(0.999).add_(theirs, alpha=0.001)
        self.g.zero_grad()
        (-self.D(self.G(torch.randn(self.batch, 512, device=self.device))).mean()).backward()
        self.g.step()


def ours(
    resolution: int,
    fmap_max: int,
    batch: int,
    device: str,
    fmap_base: int,
    precision: str,
    winograd: bool,
    compile: bool,
) -> Callable[[Tensor], None]:
    """The project's own iteration."""
    from progan.config import ProGANConfig, RunConfig, ScheduleConfig
    from progan.models import ImageShape
    from progan.schedule import Stage
    from progan.training.accelerate.traced import Executors
    from progan.training.numerics import Numerics
    from progan.training.setup import RunSetup
    from progan.training.state import TrainingState
    from progan.training.step import Step

    model = ProGANConfig(fmap_max=fmap_max, fmap_base=fmap_base)
    config = RunConfig(model=model, schedule=ScheduleConfig(resolution=resolution))
    compiled = (resolution,) if compile else ()
    numerics = Numerics(
        device, precision, torch.get_num_threads(), torch.__version__, compiled=compiled, winograd=winograd
    )
    setup = RunSetup(config, ImageShape(resolution, CHANNELS), numerics, log=print)
    state, stage = TrainingState.new(setup), Stage(resolution, "stable", 1.0, batch, 1e-3, 1e-3)
    step = Step(setup, state, stage, Executors(setup, state).of(stage))

    def iterate(pixels: Tensor) -> None:
        draws = step.rng(0, "D")
        reals = step.process(pixels, draws)
        step.d(reals, None, draws)
        step.average()
        step.g(None, step.rng(0, "G"), reals)
        state.uncounted.clear()  # nobody asks which updates were left out

    return iterate


def gflop(resolution: int, fmap_max: int, fmap_base: int) -> dict[str, float]:
    """Of an iteration, per image: 14 forward passes of D's worth and 4 of G's. Ours has fewer: fused convolutions."""
    from progan.config import ProGANConfig
    from progan.models import ImageShape, build

    found = {}
    with torch.device("meta"):
        networks = {
            "plain": (PlainG(resolution, fmap_max, fmap_base), PlainD(resolution, fmap_max, fmap_base)),
            "ours": build(ProGANConfig(fmap_max=fmap_max, fmap_base=fmap_base), ImageShape(resolution, CHANNELS), 0),
        }
        z, images = torch.zeros(1, 512), torch.zeros(1, CHANNELS, resolution, resolution)
        for name, (G, D) in networks.items():
            works = [work(lambda G=G: G(z)), work(lambda D=D: D(images))]
            found[name] = (4 * works[0] + 14 * works[1]) / 1e9
    return found


def work(call: Callable[[], object]) -> int:
    """Floating-point operations."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def peaks(variants: list[str], device: str) -> dict[str, dict[str, float]]:
    """GFLOP/s of a large product of matrices and of the best convolution, in each precision of the variants."""
    found: dict[str, dict[str, float]] = {}
    size, more = (2048, 1) if device == "cpu" else (8192, 8)
    for name in dict.fromkeys(VARIANTS[variant][0] for variant in variants):
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32)
        switch(name)
        a = torch.randn(size, size, device=device).to(dtype)
        best = {"matmul": 2 * size**3 / quickest(lambda a=a: a @ a, device), "convolution": 0.0}
        for channels, side, batch in ((128, 32, 16), (512, 16, 16), (512, 32, 8), (256, 64, 4)):
            x, w = (
                torch.randn(shape, device=device).to(dtype).to(memory_format=torch.channels_last)
                for shape in ((more * batch, channels, side, side), (channels, channels, 3, 3))
            )
            rate = 2 * x.numel() * channels * 9 / quickest(lambda x=x, w=w: F.conv2d(x, w, padding=1), device)
            best["convolution"] = max(best["convolution"], rate)
        found[name] = {kind: rate / 1e9 for kind, rate in best.items()}
    return found


def quickest(call: Callable[[], object], device: str) -> float:
    """Seconds."""
    times = []
    for _ in range(12):
        start = time.perf_counter()
        for _ in range(ROUND[device]):
            call()
        settle(device)
        times.append((time.perf_counter() - start) / ROUND[device])
    return min(times)


def settle(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def switch(precision: str) -> None:
    """What fp32 means on a GPU: that of the variant, or PyTorch's default for the plain one."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision in ("tf32", "plain")
    torch.backends.cudnn.deterministic = precision != "plain"


def measure(
    resolution: int, fmap_max: int, batch: int, device: str, seconds: float, chosen: list[str], fmap_base: int = BASE
) -> dict[str, object]:
    """Images a second of every variant, in alternation."""
    count = min(4096, 2**30 // resolution**2)
    images = np.random.default_rng(0).integers(0, 256, (count, CHANNELS, resolution, resolution), dtype=np.uint8)
    data = torch.from_numpy(images).to(device)
    variants: dict[str, Callable[[Tensor], None]] = {
        "plain fp32": Plain(resolution, fmap_max, batch, device, fmap_base)
    }
    builds = {}
    for name in chosen:
        start = time.perf_counter()
        switch(VARIANTS[name][0])
        variants[name] = ours(resolution, fmap_max, batch, device, fmap_base, *VARIANTS[name])
        builds[name] = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in variants}
    waits, began, i = [], time.perf_counter(), 0
    while i < 5 or time.perf_counter() - began < seconds:
        for name, iterate in variants.items():
            switch(VARIANTS.get(name, ("plain",))[0])
            start, waited = time.perf_counter(), 0.0
            for k in range(ROUND[device]):
                asked = time.perf_counter()
                numbers = torch.from_numpy(np.random.default_rng((i, k)).integers(0, count, batch))
                pixels = data[send(numbers, device)]
                waited += time.perf_counter() - asked
                iterate(pixels)
            settle(device)
            times[name].append((time.perf_counter() - start) / ROUND[device])
            waits.append(waited / ROUND[device])
        i += 1
    rates = {name: batch / statistics.median(found[2:]) for name, found in times.items()}
    ratios = {
        name: statistics.quantiles(
            [plain / each for plain, each in zip(times["plain fp32"][2:], found[2:], strict=True)]
        )
        for name, found in times.items()
    }
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "resolution": resolution, "fmap_max": fmap_max, "fmap_base": fmap_base, "batch": batch, "iterations": i,
        "gflop_per_image": gflop(resolution, fmap_max, fmap_base),
        "img_per_sec": rates, "ratio_quartiles": ratios,
        "build_seconds": {name: s for name, s in builds.items() if "compiled" in name},
        "data_seconds": statistics.median(waits),
        "peak_memory": most if device == "cpu" else torch.cuda.max_memory_allocated(),
    }  # fmt: skip


def picture(results: dict[str, object], path: Path) -> None:
    """Speed of every variant as a multiple of the plain one's."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = results["cases"]
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    names = [name for name in VARIANTS if name in cases[0]["img_per_sec"]]
    for i, name in enumerate(names):
        ratios = [case["img_per_sec"][name] / case["img_per_sec"]["plain fp32"] for case in cases]
        axes.bar([x + 0.8 / len(names) * i for x in range(len(cases))], ratios, 0.76 / len(names), label=name)
    labels = [f"{case['resolution']} px\n{case['fmap_max']} maps" for case in cases]
    axes.set_xticks([x + 0.3 for x in range(len(cases))], labels, fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylabel("images a second, × plain fp32")
    axes.legend(frameon=False, ncols=4, fontsize=8, loc="upper left")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print a table, write JSON after every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases")
    parser.add_argument("--device", default="cpu", choices=list(CASES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20.0, help="of each case, besides building")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--variants", help="beside the plain one")
    options = parser.parse_args()
    device = options.device
    variants = options.variants.split(",") if options.variants else CHOSEN[device]
    torch.set_num_threads(options.threads)
    keep_pages(True)
    results: dict[str, object] = {
        "date": datetime.date.today().isoformat(), "machine": machine(device), "threads": options.threads,
        "torch": torch.__version__, "python": platform.python_version(), "peaks_gflops": peaks(variants, device),
        "cases": [],
    }  # fmt: skip
    print(json.dumps(results["peaks_gflops"]))
    names = ["plain fp32", *variants]
    print(f"{'case':>12} " + " ".join(f"{name:>14}" for name in names), flush=True)
    for case in (options.cases or CASES[device]).split(","):
        resolution, fmap_max, batch, *base = (int(number) for number in case.split(":"))
        found = measure(resolution, fmap_max, batch, device, options.seconds, variants, *base)
        results["cases"].append(found)
        print(f"{case:>12} " + " ".join(f"{found['img_per_sec'][name]:14.1f}" for name in names), flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.picture:
        picture(results, options.picture)


def machine(device: str) -> str:
    """The GPU's name, or the processor's and its units for matrices."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts.get("flags\t", facts.get("flags", ""))]
    name = next((value for key, value in facts.items() if key.strip() == "model name"), "")
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {' '.join(flags) or 'no bf16 units'}"


if __name__ == "__main__":
    main()
