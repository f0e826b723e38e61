"""What the service reports about itself: logs as JSON lines with ECS field names, and metrics."""
