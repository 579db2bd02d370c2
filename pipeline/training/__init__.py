"""Repair, offline: fine-tune the whole network with bounded energies, or retrain its last layer on balanced groups."""
