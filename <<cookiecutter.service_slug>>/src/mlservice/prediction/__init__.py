"""The predict path: from a request to its response, over HTTP or Kafka."""
