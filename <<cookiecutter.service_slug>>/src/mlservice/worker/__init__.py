"""The worker: holds one model and only predicts."""
