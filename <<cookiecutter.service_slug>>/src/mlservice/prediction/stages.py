"""The stages of a prediction, each a plain function on one request's record.

A stage raises a ``RequestError`` if the request must fail. No stage waits, so the path can run each
one for all requests of a turn of the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson

from mlservice.contracts import Contract, parse
from mlservice.errors import BrokenContract, InvalidResponse
from mlservice.owner import RequestCode
from mlservice.prediction.pending import Pending, Prediction, StageTimes
from mlservice.prediction.routing import Router
from mlservice.protocol.packing import RowPacker
from mlservice.toggles import ToggleContext, Toggles
from mlservice.toggles.current import CURRENT_TOGGLES

log = logging.getLogger("mlservice.prediction")


def parse_request(pending: Pending, contract: Contract) -> None:
    """Decode the body and check it; raises ``NotJson``, ``RepeatedKey`` or ``BrokenContract``."""
    message = parse(pending.body)
    if faults := contract.faults(message):
        raise BrokenContract(faults)
    pending.message = message


def choose_version(pending: Pending, router: Router) -> None:
    """Choose the version by user or request id; raises ``Unavailable`` if none can answer."""
    context = pending.context
    user = context.user if context.user and router.sticky else context.request_id
    pending.choice = router.choose(user)


def compute_rows(pending: Pending, toggles: Toggles, code: RequestCode, packer: RowPacker) -> None:
    """Compute the features by the owner's code and pack them for the worker.

    Raises what the owner's code raises, and ``ValueError`` for a wrong number of features.
    """
    context = pending.context
    pending.toggles = ToggleContext(toggles, context.user, context.request_id, pending.message)
    token = CURRENT_TOGGLES.set(pending.toggles)
    try:
        pending.rows, pending.row_count = packer.pack(code.features(pending.message)), 1
    finally:
        CURRENT_TOGGLES.reset(token)


def make_response(
    pending: Pending, code: RequestCode, contract: Contract, clock: Callable[[], float]
) -> tuple[Prediction, object]:
    """Return the prediction, and the owner's part of its response.

    Raises ``InvalidResponse`` if the response breaks its contract, and what the owner's code
    raises.
    """
    began = clock()
    token = CURRENT_TOGGLES.set(pending.toggles)
    try:
        content = code.respond(pending.scores.values[0])
    finally:
        CURRENT_TOGGLES.reset(token)
    response = {
        "request_id": pending.context.request_id,
        "model_version": pending.scores.model_version,
        "prediction": content,
    }
    if faults := contract.faults(response):
        log.error("the response to %s breaks its contract: %s", response["request_id"], faults)
        raise InvalidResponse("the response breaks its contract")
    body = orjson.dumps(response)
    return Prediction(body, _fallbacks(pending), _times(pending, clock() - began)), content


def _fallbacks(pending: Pending) -> tuple[str, ...]:
    choice = pending.choice
    if choice.version == choice.assigned:
        return pending.fallbacks
    return (*pending.fallbacks, "version")


def _times(pending: Pending, respond: float) -> StageTimes:
    scores, validated, enriched = pending.scores, pending.validated_at, pending.enriched_at
    return StageTimes(
        validated - pending.context.started,
        None if enriched is None else enriched - validated,
        scores.sent - pending.entered_at,
        scores.answered - scores.sent,
        respond,
    )
