"""The model in LitServe, with its batching.

Annotations are not postponed here: LitServe reads the types of the two methods.
"""

import os
import sys
import uuid
from typing import Any

import lightgbm
import litserve  # type: ignore[import-not-found]  # installed in an environment of its own
import numpy as np

from bench.flight import Answer, Flight, answer, features


class Late(litserve.LitAPI):  # type: ignore[misc]  # as above
    """Decodes, batches and predicts as in LitServe's manual."""

    def setup(self, _: Any) -> None:
        """Load the model."""
        self.model = lightgbm.Booster(model_file=os.environ["BENCH_MODEL"])

    def decode_request(self, request: Flight) -> tuple[float, ...]:
        """Return the features of a checked request."""
        return features(request)

    def predict(self, rows: list[tuple[float, ...]]) -> list[float]:
        """Predict for a batch in one call."""
        matrix = np.array(rows, dtype=np.float64)
        return [float(s) for s in np.asarray(self.model.predict(matrix, num_threads=1))]

    def encode_response(self, score: float) -> Answer:
        """Return the answer for one score."""
        return answer(score, uuid.uuid4().hex)


if __name__ == "__main__":
    server = litserve.LitServer(
        Late(max_batch_size=64, batch_timeout=0.002), accelerator="cpu", workers_per_device=1
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
