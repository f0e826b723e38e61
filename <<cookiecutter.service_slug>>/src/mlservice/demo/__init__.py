"""Shows a service at work on this machine: it trains, serves, predicts real cases, experiments."""
