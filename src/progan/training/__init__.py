"""Training: data and networks in, run folder out."""
