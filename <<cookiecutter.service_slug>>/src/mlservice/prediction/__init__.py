"""From a request to its answer, whichever way it came in."""
