"""Made-up deployments under the real detector: what it finds when, and how often it cries wolf."""
