"""Break everything under load, then account for every record. `make soak`."""
