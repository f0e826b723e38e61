"""Measures the pieces of the hot path, in microseconds; runs in the rendered service's path."""

from __future__ import annotations

import json
import os
import sys
import timeit
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import orjson

from mlservice.contracts import Contract, parse
from mlservice.owner import load_request_code
from mlservice.protocol import predict_pb2
from mlservice.protocol.packing import RowPacker, pack_timeouts, unpack_rows
from mlservice.settings import load_settings

_ROWS = 16


def main(folder: Path) -> None:
    """Print one line for each piece: its name, a tab, and its microseconds."""
    bodies = [b.encode() for b in json.loads((folder / "requests.json").read_text())["bodies"]]
    for name, call, number in (*_gateway(bodies), *_worker(folder, bodies)):
        call()
        best = min(timeit.repeat(call, number=number, repeat=7)) / number
        print(f"{name}\t{best * 1e6:.1f}")


def _gateway(bodies: list[bytes]) -> Iterator[tuple[str, Callable[[], Any], int]]:
    settings = load_settings(Path.cwd(), os.environ)
    code = load_request_code(settings.service.package)
    request = Contract.load(settings.contracts / "request.schema.json")
    response = Contract.load(settings.contracts / "response.schema.json")
    packer = RowPacker(len(code.names))
    turn, messages = cycle(bodies), cycle([parse(body) for body in bodies])
    row = code.features(next(messages))
    answer = {"request_id": "0" * 24, "model_version": "20131007T000000-0123abcd"}
    yield "parse the body", lambda: parse(next(turn)), 2000
    yield "check it against its contract", lambda: request.faults(next(messages)), 2000
    yield "features (the owner's code)", lambda: code.features(next(messages)), 2000
    yield "pack the row", lambda: packer.pack(row), 2000
    yield "respond (the owner's code)", lambda: code.respond(0.25), 2000
    message = {**answer, "prediction": code.respond(0.25)}
    yield "check the answer against its contract", lambda: response.faults(message), 2000
    yield "dump the answer", lambda: orjson.dumps(message), 2000
    rows = [packer.pack(row)] * _ROWS
    yield f"build a call of {_ROWS} rows", lambda: _call(rows), 2000


def _worker(folder: Path, bodies: list[bytes]) -> Iterator[tuple[str, Callable[[], Any], int]]:
    code = load_request_code(load_settings(Path.cwd(), os.environ).service.package)
    matrix = np.array([code.features(parse(body)) for body in bodies[:_ROWS]], dtype=np.float64)
    data = _call([matrix.tobytes()])
    booster = lightgbm.Booster(model_file=folder / "model" / "model.txt")
    for count in (1, _ROWS):
        yield (
            f"LightGBM, {count} rows",
            partial(booster.predict, matrix[:count], num_threads=1),
            100,
        )
    yield f"read a call of {_ROWS} rows", lambda: _read(data), 2000


def _call(rows: list[bytes]) -> bytes:
    timeouts = pack_timeouts([1000] * len(rows))
    request = predict_pb2.PredictRequest(
        rows=b"".join(rows), count=_ROWS, timeouts_ms=timeouts, features="0" * 16
    )
    return request.SerializeToString()


def _read(data: bytes) -> Any:
    request = predict_pb2.PredictRequest.FromString(data)
    return unpack_rows(request.rows, request.count)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
