"""Incidents from end to end: real workers and monitors as processes, on a clock that follows the images."""
