"""Where records come from, and what their bytes say."""
