"""Settings of runs that take a second."""

TINY = {
    "data": "avatars:64",
    "resolution": 8,
    "stable_kimg": 0.2,
    "fade_kimg": 0.2,
    "batch_size": 8,
    "tick_kimg": 0.04,
    "fmap_max": 8,
    "z_dim": 8,
    "device": "cpu",
    "precision": "fp32",
    "compile": "off",
    "quiet": True,
}
"""Options of `progan.train`; a test puts in what it is about: `{**TINY, "resolution": 16}`."""


def flags(**options: object) -> list[str]:
    """The same for `progan train`, with other options put in; without `quiet`."""
    chosen = {**TINY, **options}
    del chosen["quiet"]
    return [part for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", str(value))]
