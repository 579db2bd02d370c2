"""A digit reader that is shown cats."""
