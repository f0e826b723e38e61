"""One module for each page that is made from code; ``tools.reference`` writes or compares them."""
