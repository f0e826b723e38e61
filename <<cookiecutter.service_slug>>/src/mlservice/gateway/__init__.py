"""The gateway: the process that speaks HTTP and does everything but predict."""
