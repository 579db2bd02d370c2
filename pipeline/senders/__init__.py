"""Channels: each says one notification to one receiver, and raises where that has not taken it."""
