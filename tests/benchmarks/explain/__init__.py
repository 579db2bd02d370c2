"""Region of strangeness: the acceptance figures, and the benchmark of foreign objects."""
