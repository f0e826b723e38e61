"""The worker: the process that holds one model and only predicts."""
