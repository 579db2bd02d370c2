"""Ten synthetic faults from end to end: real images through worker and monitor, and what the cause card says."""
