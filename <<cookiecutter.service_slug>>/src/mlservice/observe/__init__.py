"""What the service says of itself: logs as JSON lines with ECS field names, and metrics."""
