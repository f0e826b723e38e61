"""The model in MLServer: predicts in the server's process (cheaper), with MLServer's batching."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid

import lightgbm
import numpy as np
from mlserver import (  # type: ignore[import-not-found]  # installed in an environment of its own
    MLModel,
    MLServer,
    ModelSettings,
    Settings,
)
from mlserver.codecs import StringCodec  # type: ignore[import-not-found]  # as above
from mlserver.types import (  # type: ignore[import-not-found]  # as above
    InferenceRequest,
    InferenceResponse,
)

from bench.flight import Flight, answer, features
from bench.servers import free_port


class Late(MLModel):  # type: ignore[misc]  # as above
    """Reads a flight's JSON from a string tensor and returns the answer's JSON."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = lightgbm.Booster(model_file=os.environ["BENCH_MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict for a batch in one call."""
        texts = StringCodec.decode_input(payload.inputs[0])
        rows = np.array([features(Flight.model_validate_json(t)) for t in texts], dtype=np.float64)
        scores = np.asarray(self.model.predict(rows, num_threads=1))
        answers = [answer(float(s), uuid.uuid4().hex).model_dump_json() for s in scores]
        output = StringCodec.encode_output("answer", answers)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main(port: int) -> None:
    """Serve one model until a signal."""
    server = MLServer(
        Settings(
            host="127.0.0.1",
            http_port=port,
            grpc_port=free_port(),
            metrics_port=free_port(),
            parallel_workers=0,
            debug=False,
        )
    )
    await server.start(
        [ModelSettings(name="late", implementation=Late, max_batch_size=64, max_batch_time=0.002)]
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
