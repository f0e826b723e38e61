"""Opens the store of a URL. A new kind of store is one module, and one line in ``SCHEMES``.

The module has a function ``open_store(root, options)``. It is imported when it is needed, since
each kind brings a library of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from urllib.parse import urlsplit

from mlservice.artifacts.store_protocol import Store, StoreOptions
from mlservice.errors import StoreError

SCHEMES = {
    "file": "mlservice.artifacts.object_store",
    "s3": "mlservice.artifacts.object_store",
    "webhdfs": "mlservice.artifacts.webhdfs",
    "swebhdfs": "mlservice.artifacts.webhdfs",
}


def open_store(
    root: str,
    *,
    environ: Mapping[str, str] | None = None,
    s3_endpoint: str = "",
    s3_region: str = "us-east-1",
) -> Store:
    """Open the store at ``root`` (``file:///``, ``s3://bucket/``, ``webhdfs://namenode:9870/``).

    ``environ`` names the user of HDFS (HADOOP_USER_NAME); without it there is none. Raises
    ``StoreError`` for another scheme, a root that cannot be used, or a folder that cannot be made.
    """
    module = SCHEMES.get(urlsplit(root).scheme)
    if module is None:
        raise StoreError(
            f"[artifacts] root = '{root}': give a folder, s3://bucket/prefix or "
            "webhdfs://host:port/prefix, no other kind is known"
        )
    options = StoreOptions(environ or {}, s3_endpoint, s3_region)
    store: Store = importlib.import_module(module).open_store(root, options)
    return store


__all__ = ["SCHEMES", "Store", "open_store"]
