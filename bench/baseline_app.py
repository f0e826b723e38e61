"""The baseline: the server that a good data scientist writes in an afternoon.

It is FastAPI with pydantic classes for request and response, and the Booster in the same process.
It has no sklearn wrapper (ten times slower), one thread for a row (more threads only cost), and an
async function (a thread pool costs more than the prediction).
"""

from __future__ import annotations

import os
import uuid

import lightgbm
import numpy as np
from fastapi import FastAPI

from bench.flight import Answer, Flight, answer, features

app = FastAPI()
model = lightgbm.Booster(model_file=os.environ["BENCH_MODEL"])


@app.post("/v1/predict")
async def predict(flight: Flight) -> Answer:
    """Predict for one flight."""
    rows = np.array([features(flight)], dtype=np.float64)
    score = float(np.asarray(model.predict(rows, num_threads=1))[0])
    return answer(score, uuid.uuid4().hex)


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Report that the process answers."""
    return {"status": "ready"}
