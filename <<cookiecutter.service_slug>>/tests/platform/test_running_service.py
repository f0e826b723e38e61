"""The service as its callers meet it: gateway and worker as processes, asked over HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mlservice.artifacts import Artifact
from mlservice.door import RequestSide, demo_period, open_samples
from mlservice.local import LocalService, free_ports
from mlservice.pipeline import parse_period
from mlservice.settings import Settings
from mlservice.worker.slot import ModelSlot


@pytest.fixture(scope="module")
def url(
    settings: Settings,
    environ: dict[str, str],
    model: Artifact,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    logs = tmp_path_factory.mktemp("logs")
    with LocalService(settings.folder, free_ports(environ), model.uri, logs) as service:
        yield service.url


@pytest.fixture(scope="module")
def sample(settings: Settings) -> dict[str, Any]:
    period = parse_period(demo_period(settings.service.package), settings.pipeline.retrain_every)
    samples = open_samples(settings.service.package)(period, 1)
    assert samples, f"samples({period}, 1) in data.py gave none: it must find one"
    return samples[0].request


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
    url: str, sample: dict[str, Any], request_side: RequestSide, slot: ModelSlot
) -> None:
    status, answer = post(url, json.dumps(sample).encode())
    row = np.array([request_side.features(sample)], dtype=np.float64)
    expected = request_side.respond(float(slot.predict(row)[0]))
    assert (status, answer["prediction"]) == (200, expected)
    assert answer["model_version"] == slot.version


def test_it_is_alive_and_ready(url: str) -> None:
    for path in ("live", "ready", "openapi.json"):
        with urllib.request.urlopen(f"{url}/{path}", timeout=10) as response:
            assert response.status == 200


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
