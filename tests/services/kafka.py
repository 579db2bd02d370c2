"""A real Kafka broker."""
