"""`oodwatch doctor`: everything that a worker on this machine would need, checked one by one."""
