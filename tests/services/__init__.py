"""Real services for tests: named by the environment, else started here without Docker, else absent."""
