"""Where in an image it is strange: regions, who finds them, and what filling them does to the score."""
