"""Training: setup, step, loop and state of a run, with what comes before the first step and what watches it."""
