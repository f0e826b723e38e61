"""The keys and the client of the S3 server that the tests start."""

from __future__ import annotations

import boto3

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def client(endpoint: str):  # type: ignore[no-untyped-def]  # noqa: ANN201  # boto3 has no types
    """A client of moto's server."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # moto takes any
    )
