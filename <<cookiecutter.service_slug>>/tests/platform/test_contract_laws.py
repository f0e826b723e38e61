"""Laws for every request that keeps its contract, in any service."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlservice.contracts import Contract
from mlservice.errors import InvalidRequest
from mlservice.owner import RequestCode, load_model_code
from mlservice.protocol.packing import RowPacker, unpack_rows
from mlservice.settings import Settings
from mlservice.testing import messages
from mlservice.worker.slot import ModelSlot


def test_every_valid_request_makes_one_row_of_features(
    request_contract: Contract, request_side: RequestCode
) -> None:
    packer = RowPacker(len(request_side.names))

    @given(messages(request_contract))
    def law(message: dict[str, object]) -> None:
        try:
            row = packer.pack(request_side.features(message))
        except InvalidRequest:
            return
        assert not np.isinf(unpack_rows(row, 1)).any()

    law()


def test_features_depend_on_the_request_alone(
    request_contract: Contract, request_side: RequestCode
) -> None:
    @given(messages(request_contract))
    def law(message: dict[str, object]) -> None:
        try:
            first = request_side.features(message)
        except InvalidRequest:
            return
        second = request_side.features(dict(reversed(message.items())))
        assert np.array_equal(first, second, equal_nan=True)

    law()


def test_every_score_of_the_allowed_range_makes_a_valid_response(
    settings: Settings, response_contract: Contract, request_side: RequestCode
) -> None:
    checks = load_model_code(settings.service.package).checks

    @given(st.floats(checks.low, checks.high))
    def law(score: float) -> None:
        response = {
            "request_id": "r",
            "model_version": "v",
            "prediction": request_side.respond(score),
        }
        assert response_contract.faults(response) == ()

    law()


def test_the_model_scores_every_valid_request_within_its_range(
    settings: Settings, request_contract: Contract, request_side: RequestCode, slot: ModelSlot
) -> None:
    checks = load_model_code(settings.service.package).checks

    @given(st.lists(messages(request_contract), min_size=1, max_size=5))
    def law(batch: list[dict[str, object]]) -> None:
        rows = []
        for message in batch:
            try:
                rows.append(list(request_side.features(message)))
            except InvalidRequest:
                continue
        if not rows:
            return
        scores = np.asarray(slot.predict(np.array(rows, dtype=np.float64)))
        assert scores.shape == (len(rows),)
        assert all(math.isfinite(score) for score in scores)
        assert checks.low <= scores.min() <= scores.max() <= checks.high, (
            f"scores {scores} leave the range of checks.py, {checks.low} to {checks.high}: let "
            "predict() clip them, or bound the request's fields in contracts/"
        )

    law()
