"""The model in BentoML: one service whose method is batchable."""

from __future__ import annotations

import os
import uuid

import bentoml  # type: ignore[import-not-found]  # installed in an environment of its own
import lightgbm
import numpy as np

from bench.flight import Answer, Flight, answer, features


@bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 512})
class Late:
    """Predicts in the process that answers."""

    def __init__(self) -> None:
        """Load the model."""
        self.model = lightgbm.Booster(model_file=os.environ["BENCH_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)  # type: ignore[untyped-decorator]  # as above
    def predict(self, flights: list[Flight]) -> list[Answer]:
        """Predict for all flights of a batch in one call."""
        rows = np.array([features(flight) for flight in flights], dtype=np.float64)
        scores = np.asarray(self.model.predict(rows, num_threads=1))
        return [answer(float(score), uuid.uuid4().hex) for score in scores]
