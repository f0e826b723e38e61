"""What other services know about a request: calls, caches, breakers and fallbacks."""
