"""Adds to a request what other services know: calls, caches, breakers and fallbacks."""
