"""The protocol between gateway and worker; `make proto` generates the `_pb2` modules."""
