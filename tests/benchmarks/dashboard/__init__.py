"""What the pages cost over ten million scores of two weeks: queries, refreshes, first paint, memory, many sessions."""
