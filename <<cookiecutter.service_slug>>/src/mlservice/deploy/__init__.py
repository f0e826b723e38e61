"""Registers the service's jobs and keys on the clusters, and looks after them there."""
