"""Calls the running service over HTTP, with gateway and worker as processes."""

import json
import re
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from openapi_spec_validator import validate

from mlservice.contracts import Contract, load_examples
from mlservice.demo.samples import demo_period, load_samples
from mlservice.local import LocalService
from mlservice.owner import RequestCode
from mlservice.pipeline import parse_period
from mlservice.settings import Settings
from mlservice.testing import messages
from mlservice.worker.slot import ModelSlot


@pytest.fixture
def url(service: LocalService) -> str:
    return service.url


@pytest.fixture(scope="module")
def sample(settings: Settings) -> dict[str, Any]:
    period = parse_period(demo_period(settings.service.package), settings.pipeline.retrain_every)
    samples = load_samples(settings.service.package)(period, 1)
    assert samples, f"samples({period}, 1) in data.py gave none: it must find one"
    return samples[0].request


def get(url: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{url}/{path}", timeout=10) as response:
        assert response.status == 200
        return bytes(response.read())


def post(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{url}/v1/predict", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_an_answer_is_what_the_model_says_of_the_same_features(
    url: str, sample: dict[str, Any], request_side: RequestCode, slot: ModelSlot
) -> None:
    status, answer = post(url, json.dumps(sample).encode())
    row = np.array([request_side.features(sample)], dtype=np.float64)
    expected = request_side.respond(float(slot.predict(row)[0]))
    assert (status, answer["prediction"]) == (200, expected)
    assert answer["model_version"] == slot.version


def test_it_is_alive_and_ready(url: str) -> None:
    assert json.loads(get(url, "live")) == {"status": "alive"}
    assert json.loads(get(url, "ready")) == {"status": "ready"}


def test_every_example_of_a_request_is_answered(url: str, settings: Settings) -> None:
    for name, example in load_examples(settings.contracts / "examples", "request").items():
        status, answer = post(url, json.dumps(example).encode())
        assert status == 200, f"contracts/examples/request.{name}.json: {answer}"


def test_the_served_openapi_document_says_what_the_contracts_say(
    url: str, request_contract: Contract
) -> None:
    document = json.loads(get(url, "openapi.json"))
    validate(document)
    shown = document["components"]
    request = Contract("shown", {"$ref": "#/components/schemas/Request", "components": shown})

    @given(messages(request_contract))
    def law(message: dict[str, object]) -> None:
        assert request.faults(message) == ()

    law()


def test_the_docs_page_is_made_of_files_that_the_service_has_itself(url: str) -> None:
    page = get(url, "docs").decode()
    assert "//" not in page
    for file in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert get(url, file)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"NaN", b'{"a": 1e999}', b"[" * 5000, b'{"a": 1, "a": 2}'],
)
def test_what_is_no_json_is_refused_with_400(url: str, body: bytes) -> None:
    status, answer = post(url, body)
    assert status == 400
    assert answer["detail"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'"text"', b'{"no_such_field": 1}'])
def test_what_breaks_the_contract_is_refused_with_422_that_names_the_fault(
    url: str, body: bytes
) -> None:
    status, answer = post(url, body)
    assert status == 422
    assert all(fault["field"] and fault["rule"] for fault in answer["faults"])
