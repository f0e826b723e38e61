"""The protocol between gateway and worker; the `_pb2` modules are made by `make proto`."""
