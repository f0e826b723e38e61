"""The gateway: HTTP, contracts and all waiting; it never holds a model."""
