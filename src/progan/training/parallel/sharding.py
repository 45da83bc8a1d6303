"""Sharding of a batch among processes, so that together they compute what one process would.

Of `size` processes, number `rank` takes the samples rank, rank + size, … of a batch. Sample n of N is in group n mod
(N/G) of D's minibatch statistics: where `size` divides the number of groups, a share holds whole groups, and they are
the groups that the share's own statistics form.
"""

import math

from progan.config import RunConfig
from progan.errors import ConfigError
from progan.schedule import Schedule


def check_sharding(config: RunConfig, size: int) -> list[str]:
    """Notes on where `size` processes differ from one. Raises ConfigError where a batch cannot be split evenly."""
    batches = {
        span.resolution: int(config.schedule.batch_size.at(span.resolution))
        for span, _ in Schedule(config.schedule).extents()
    }
    common = math.gcd(*batches.values())
    for resolution, batch in batches.items():
        if batch % size:
            fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
            raise ConfigError(
                f"--batch-size {batch} at {resolution}x{resolution} cannot be split evenly among {size} processes. "
                f"Start one of {fitting}, or use multiples of {size}"
            )
    split = [f"{r}x{r}" for r, batch in batches.items() if size > 1 and config.model.groups(batch) % size]
    if not split:
        return []
    return [
        f"at {', '.join(split)} images that a network looks at together (minibatch statistics, batch normalisation) "
        f"are split among {size} processes: the numbers differ from those of one process"
    ]
