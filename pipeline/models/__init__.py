"""The classifier: its package on disk, its preprocessing, its forward pass."""
