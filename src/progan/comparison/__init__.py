"""Several GANs under one protocol: same data, same budget, several seeds, one page (docs/comparing.md)."""

from progan.comparison.protocol import Outcome, compare

__all__ = ["Outcome", "compare"]
