"""Executors of the training step that take the place of autograd: traced, compiled, captured."""
