"""From snapshots to pictures."""

from progan.sampling.pictures import load

__all__ = ["load"]
