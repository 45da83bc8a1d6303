"""Pages, complete in one file, of a run or a comparison: tables, charts and pictures; no network is needed."""
