"""Results as self-contained HTML pages: no script, no foreign request, light and dark, wide and narrow."""
