"""What is found out before the first step: cost, memory, precision and compilation."""
