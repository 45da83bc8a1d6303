"""Networks of other implementations as snapshots."""

from progan.importers.official import LICENCE, import_official

__all__ = ["LICENCE", "import_official"]
