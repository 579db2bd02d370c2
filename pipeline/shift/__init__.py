"""Pure maths on counts and scores: threshold, histogram edges, roll-ups, the detector of shifts."""
