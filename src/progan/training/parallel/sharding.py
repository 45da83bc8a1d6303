"""How a batch is shared out among processes, so that together they compute what one process would.

Of `size` processes number `rank` takes the samples rank, rank + size, … of a batch. Sample n of N is in group n mod
(N/G) of D's minibatch statistics: where `size` divides the number of groups, a share holds whole groups, and they are
the groups that the share's own statistics form.
"""

import math

from progan.config import ProGANConfig, RunConfig
from progan.errors import ConfigError
from progan.models.layers import group_divisor
from progan.schedule import Schedule
from progan.training.preflight.estimate import extents


def check_shares(config: RunConfig, size: int) -> list[str]:
    """Lines on where `size` processes differ from one; ConfigError where a batch cannot be shared out evenly."""
    batches = {
        span.resolution: int(config.schedule.batch_size.at(span.resolution))
        for span, _ in extents(Schedule(config.schedule))
    }
    common = math.gcd(*batches.values())
    for resolution, batch in batches.items():
        if batch % size:
            fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
            raise ConfigError(
                f"--batch-size {batch} at {resolution}x{resolution} cannot be shared out among {size} processes. "
                f"Start one of {fitting}, or use multiples of {size}"
            )
    split = [f"{r}x{r}" for r, batch in batches.items() if size > 1 and _groups(config, batch) % size]
    if not split:
        return []
    return [
        f"at {', '.join(split)} images that a network looks at together (minibatch statistics, batch normalisation) "
        f"are parted among {size} processes: the numbers differ from those of one process"
    ]


def _groups(config: RunConfig, batch: int) -> int:
    """Parts of a batch that have nothing to do with each other."""
    model = config.model
    if not isinstance(model, ProGANConfig) or model.batch_norm or model.mbdisc_kernels:
        return 1
    return batch // group_divisor(batch, model.mbstd_group)
