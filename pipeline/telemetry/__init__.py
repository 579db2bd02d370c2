"""What a running process tells about itself: health, metrics, HTTP, logs. It reads no database."""
