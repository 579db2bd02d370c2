"""The worker's rooms: one module per thread or stage."""
