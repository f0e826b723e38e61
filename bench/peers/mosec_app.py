"""The model in mosec: a front in Rust, one worker in Python, dynamic batches."""

from __future__ import annotations

import os
import uuid

import lightgbm
import numpy as np
from mosec import Server, Worker  # type: ignore[import-not-found]  # in an environment of its own

from bench.flight import Answer, Flight, answer, features


class Late(Worker):  # type: ignore[misc]  # as above
    """Checks, batches and predicts as in mosec's manual."""

    def __init__(self) -> None:
        """Load the model."""
        super().__init__()
        self.model = lightgbm.Booster(model_file=os.environ["BENCH_MODEL"])

    def deserialize(self, data: bytes) -> Flight:
        """Return the checked request."""
        return Flight.model_validate_json(data)

    def forward(self, data: list[Flight]) -> list[Answer]:
        """Predict for all flights of a batch in one call."""
        rows = np.array([features(flight) for flight in data], dtype=np.float64)
        scores = np.asarray(self.model.predict(rows, num_threads=1))
        return [answer(float(score), uuid.uuid4().hex) for score in scores]

    def serialize(self, data: Answer) -> bytes:
        """Return the answer's JSON."""
        return data.model_dump_json().encode()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Late, num=1, max_batch_size=64, max_wait_time=2)
    server.run()
