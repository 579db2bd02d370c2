"""Settings → the parts of a process: the one place where they are put together."""
