"""From snapshots to pictures."""

from progan.sampling.pictures import load, write_files, write_grid

__all__ = ["load", "write_files", "write_grid"]
