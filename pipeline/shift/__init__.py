"""Pure maths on counts and scores: threshold, histogram edges, roll-ups."""
