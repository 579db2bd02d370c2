"""A real PostgreSQL server."""
