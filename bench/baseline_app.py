"""The baseline: what a good data scientist writes in an afternoon.

FastAPI with pydantic in and out and the Booster in the process; no sklearn wrapper (ten times
slower), one thread for a row (more only cost), an async function (a thread pool costs more than
the prediction takes).
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
    """The prediction for one flight."""
    rows = np.array([features(flight)], dtype=np.float64)
    score = float(np.asarray(model.predict(rows, num_threads=1))[0])
    return answer(score, uuid.uuid4().hex)


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ready"}
