"""From an image to a pager, from end to end: what is told of a real incident, whatever is killed or away meanwhile."""
