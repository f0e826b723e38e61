"""Each stage of the predict path alone, on the record of one request."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from mlservice.contracts import Contract
from mlservice.errors import (
    BrokenContract,
    InvalidRequest,
    InvalidResponse,
    NotJson,
    RepeatedKey,
    Unavailable,
)
from mlservice.events import EventLog
from mlservice.live.flags import FlagSet
from mlservice.owner import RequestCode
from mlservice.policies import CanaryPolicy, EpsilonGreedyPolicy, Policy, WeightsPolicy
from mlservice.prediction import stages
from mlservice.prediction.context import RequestContext
from mlservice.prediction.pending import Outcome, Pending, Scores
from mlservice.prediction.routing import Router
from mlservice.prediction.traffic_split import Choice
from mlservice.protocol.packing import RowPacker
from mlservice.toggles import Toggles, toggle

DRAFT = "https://json-schema.org/draft/2020-12/schema"
REQUEST = Contract(
    "request",
    {
        "$schema": DRAFT,
        "type": "object",
        "required": ["hour"],
        "properties": {"hour": {"type": "integer", "minimum": 0}},
    },
)
RESPONSE = Contract(
    "response",
    {
        "$schema": DRAFT,
        "type": "object",
        "required": ["request_id", "model_version", "prediction"],
        "properties": {
            "prediction": {
                "type": "object",
                "properties": {"probability": {"type": "number", "maximum": 1}},
            }
        },
    },
)
FOR_ANN = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "on", "off"]},
}
STABLE = Choice("stable", "stable", 1.0, "weights", "")
HALF_EACH = WeightsPolicy(policy="weights", weights={"stable": 1, "new": 1})
ROUTED = [str(number) for number in range(200)]


def pending(body: bytes = b"{}", user: str | None = None, request_id: str = "r") -> Pending:
    """A request that began at 10 s; its callback must not be called by a stage."""

    def fail(outcome: Outcome) -> None:
        raise AssertionError(f"a stage finished the request with {outcome}")

    return Pending(body, RequestContext(request_id, user, 10.0, 11.0), fail)


def code(
    features: Callable[[Mapping[str, Any]], tuple[float, ...]] = lambda _: (1.0, 2.0),
    respond: Callable[[float], dict[str, Any]] = lambda score: {"probability": score},
) -> RequestCode:
    """The code of an owner with two features."""
    return RequestCode(("hour", "distance"), features, respond)


def router(policy: Policy | None = None, **workers: int) -> Router:
    """A router with this policy, and so many workers of each version."""
    made = Router()
    made.apply(policy)
    made.count_workers(workers)
    return made


def scored(score: float = 0.25, choice: Choice = STABLE) -> Pending:
    """A request that has been through every stage but the last: 1 s, 2 s and 4 s of waiting."""
    request = pending(user="ann")
    request.choice = choice
    request.validated_at, request.entered_at = 11.0, 11.5
    request.scores = Scores([score], "model-1", 13.5, 17.5)
    return request


@pytest.fixture(name="toggles")
def make_toggles() -> Iterator[Toggles]:
    """Toggles with one flag, which is on for the user ann only."""
    toggles = Toggles(EventLog(None, 0))
    toggles.apply(FlagSet.model_validate({"flags": {"careful": FOR_ANN}}))
    yield toggles
    toggles.close()


# Parsing


def test_a_body_that_keeps_its_contract_becomes_the_message() -> None:
    request = pending(b'{"hour": 7}')
    stages.parse_request(request, REQUEST)
    assert request.message == {"hour": 7}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"hour": NaN}', b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    request = pending(body)
    with pytest.raises(NotJson):
        stages.parse_request(request, REQUEST)
    assert request.message == {}


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(RepeatedKey, match="'hour'"):
        stages.parse_request(pending(b'{"hour": 7, "hour": 8}'), REQUEST)


@pytest.mark.parametrize(
    ("body", "field", "value"), [(b"{}", "hour", None), (b'{"hour": -1}', "hour", -1)]
)
def test_a_broken_contract_names_the_field_and_its_value(
    body: bytes, field: str, value: object
) -> None:
    request = pending(body)
    with pytest.raises(BrokenContract) as error:
        stages.parse_request(request, REQUEST)
    assert [(fault.field, fault.value) for fault in error.value.faults] == [(field, value)]
    assert request.message == {}, "later stages must not see a message that is refused"


# Routing


def test_a_user_keeps_the_version_whatever_the_request_id_is() -> None:
    by_weights = router(HALF_EACH, stable=1, new=1)
    found = set()
    for request_id in ROUTED:
        request = pending(user="ann", request_id=request_id)
        stages.choose_version(request, by_weights)
        found.add(request.choice)
    assert len(found) == 1


def test_a_request_without_a_user_gets_its_version_by_its_id() -> None:
    by_weights = router(HALF_EACH, stable=1, new=1)
    first, again = ([choose(by_weights, None, name) for name in ROUTED] for _ in range(2))
    assert first == again, "the same request id gets the same version"
    assert set(first) == {"stable", "new"}


def test_a_policy_that_is_not_sticky_ignores_the_user() -> None:
    bandit = EpsilonGreedyPolicy(
        policy="epsilon_greedy", weights={"stable": 1, "new": 1}, statistics="http://127.0.0.1:1"
    )
    by_bandit = router(bandit, stable=1, new=1)
    assert {choose(by_bandit, "ann", name) for name in ROUTED} == {"stable", "new"}


def test_another_version_answers_if_the_assigned_one_has_no_worker() -> None:
    request = pending(user="ann")
    stages.choose_version(request, router(CanaryPolicy(policy="canary", share=0.999999), stable=1))
    assert (request.choice.assigned, request.choice.version) == ("canary", "stable")


def test_no_worker_at_all_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="version stable"):
        stages.choose_version(pending(), router())


def choose(by: Router, user: str | None, request_id: str) -> str:
    """The version that is chosen for a request."""
    request = pending(user=user, request_id=request_id)
    stages.choose_version(request, by)
    return request.choice.version


# Features


def test_features_become_one_packed_row(toggles: Toggles) -> None:
    request = pending()
    request.message = {"hour": 7}
    stages.compute_rows(
        request, toggles, code(lambda message: (message["hour"], 0.5)), RowPacker(2)
    )
    assert (request.rows, request.row_count) == (struct.pack("<2d", 7, 0.5), 1)


def test_an_invalid_request_of_the_owner_passes_unchanged(toggles: Toggles) -> None:
    def features(_: Mapping[str, Any]) -> tuple[float, ...]:
        raise InvalidRequest("hour", 25, "give an hour from 0 to 23")

    request = pending()
    with pytest.raises(InvalidRequest) as error:
        stages.compute_rows(request, toggles, code(features), RowPacker(2))
    assert [(fault.field, fault.value) for fault in error.value.faults] == [("hour", 25)]
    assert (request.rows, request.row_count) == (b"", 0)


@pytest.mark.parametrize("row", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_a_wrong_number_of_features_is_an_error_with_both_numbers(
    toggles: Toggles, row: tuple[float, ...]
) -> None:
    request = pending()
    with pytest.raises(ValueError, match=f"{len(row)} features for 2 names"):
        stages.compute_rows(request, toggles, code(lambda _: row), RowPacker(2))
    assert (request.rows, request.row_count) == (b"", 0)


# Toggles


@pytest.mark.parametrize(("user", "value"), [("ann", True), ("bob", False), (None, False)])
def test_features_and_respond_see_the_toggles_of_their_user(
    toggles: Toggles, user: str | None, value: bool
) -> None:
    seen = []

    def features(_: Mapping[str, Any]) -> tuple[float, ...]:
        seen.append(toggle("careful", False))
        return 1.0, 2.0

    def respond(score: float) -> dict[str, Any]:
        seen.append(toggle("careful", False))
        return {"probability": score}

    request = scored()
    request.context = RequestContext("r", user, 10.0, 11.0)
    stages.compute_rows(request, toggles, code(features, respond), RowPacker(2))
    stages.make_response(request, code(features, respond), RESPONSE, lambda: 0.0)
    assert seen == [value, value]
    assert toggle("careful", True) is True, "after a stage every toggle has its default again"


def test_toggles_end_with_the_stage_if_the_owners_code_raises(toggles: Toggles) -> None:
    def features(_: Mapping[str, Any]) -> tuple[float, ...]:
        raise InvalidRequest("hour", 25, "give an hour from 0 to 23")

    def respond(_: float) -> dict[str, Any]:
        raise RuntimeError("a bug of the owner's")

    request = scored()
    with pytest.raises(InvalidRequest):
        stages.compute_rows(request, toggles, code(features), RowPacker(2))
    assert toggle("careful", False) is False
    with pytest.raises(RuntimeError):
        stages.make_response(request, code(respond=respond), RESPONSE, lambda: 0.0)
    assert toggle("careful", False) is False


# Responses


def test_the_response_has_the_request_id_the_model_and_the_owners_part() -> None:
    prediction, content = stages.make_response(scored(), code(), RESPONSE, lambda: 0.0)
    assert content == {"probability": 0.25}
    assert json.loads(prediction.body) == {
        "request_id": "r",
        "model_version": "model-1",
        "prediction": {"probability": 0.25},
    }


def test_a_response_that_breaks_its_contract_is_logged_and_hidden_from_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.ERROR, "mlservice.prediction"),
        pytest.raises(InvalidResponse) as error,
    ):
        stages.make_response(scored(1.5), code(), RESPONSE, lambda: 0.0)
    assert (str(error.value), error.value.faults) == ("the response breaks its contract", ())
    assert "prediction/probability" in caplog.text


@pytest.mark.parametrize(
    ("version", "fallbacks"), [("stable", ("weather",)), ("new", ("weather", "version"))]
)
def test_fallbacks_name_the_upstreams_and_another_version(
    version: str, fallbacks: tuple[str, ...]
) -> None:
    request = scored(choice=Choice("stable", version, 0.5, "weights", ""))
    request.fallbacks = ("weather",)
    prediction, _ = stages.make_response(request, code(), RESPONSE, lambda: 0.0)
    assert prediction.fallbacks == fallbacks


# Times


def test_each_stage_has_its_own_time() -> None:
    clock = iter([20.0, 20.25])
    prediction, _ = stages.make_response(scored(), code(), RESPONSE, lambda: next(clock))
    assert prediction.stages.by_name() == {
        "validate": 1.0,
        "queue": 2.0,
        "worker": 4.0,
        "respond": 0.25,
    }


def test_enrichment_has_a_time_if_upstreams_were_asked() -> None:
    request = scored()
    request.enriched_at = 11.125
    prediction, _ = stages.make_response(request, code(), RESPONSE, lambda: 0.0)
    assert prediction.stages.enrich == 0.125
