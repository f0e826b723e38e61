"""The OpenAPI document and its page: whole, true of what is really answered, and of one host."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import validate

from mlservice.contracts import Contract, load_examples
from mlservice.errors import (
    BrokenContract,
    ContractError,
    Fault,
    NotJson,
    RequestError,
    Unavailable,
)
from mlservice.gateway.openapi import Contracts, Release, make_document, read_document
from mlservice.gateway.problems import PROBLEM_CONTRACT, problem_body
from mlservice.local import LocalService, free_ports
from mlservice.settings import load_settings
from template_tests.support.toy_service import SERVICE, TOY, MakeToy, Toy

SOURCES = sorted((SERVICE / "src" / "mlservice").rglob("*.py"))
CLOSED = {"type": "object", "additionalProperties": False}


def document_of(request: dict[str, Any], **environ: str) -> dict[str, Any]:
    contracts = Contracts(Contract("request", request), Contract("response", CLOSED))
    return make_document(load_settings(TOY, environ), contracts, Release())


# The document ----------------------------------------------------------------------------


def test_the_examples_contracts_and_examples_make_a_valid_document() -> None:
    contracts = SERVICE / "contracts"
    schemas = Contracts(
        Contract.load(contracts / "request.schema.json"),
        Contract.load(contracts / "response.schema.json"),
        {kind: load_examples(contracts / "examples", kind) for kind in ("request", "response")},
    )
    document = make_document(load_settings(TOY, {}), schemas, Release("2.1.0", "Predicts"))
    validate(document)
    assert document["openapi"].startswith("3.1.")
    assert document["info"] | {"version": "2.1.0", "summary": "Predicts"} == document["info"]
    assert document["components"]["schemas"]["Request"] == schemas.request.schema
    operation = document["paths"]["/v1/predict"]["post"]
    shown = operation["requestBody"]["content"]["application/json"]["examples"]
    assert shown.keys() == {"evening-at-newark", "without-weather"}
    assert operation["responses"]["200"]["content"]["application/json"]["examples"]
    for response in document["components"]["responses"].values():
        assert (
            PROBLEM_CONTRACT.faults(response["content"]["application/problem+json"]["example"])
            == ()
        )


def test_a_service_that_is_not_installed_and_has_no_examples_has_a_document() -> None:
    document = read_document(load_settings(TOY, {}))
    validate(document)
    assert document["info"]["version"] == "0"
    assert "examples" not in json.dumps(document)


def test_a_contract_that_refers_to_itself_means_the_same_in_the_document() -> None:
    tree = {
        **CLOSED,
        "properties": {"leaf": {"$ref": "#/$defs/number"}, "next": {"$ref": "#"}},
        "$defs": {"number": {"type": "number"}},
    }
    document = document_of(tree)
    validate(document)
    shown = {"$ref": "#/components/schemas/Request", "components": document["components"]}
    for message, good in (
        ({"leaf": 1, "next": {"next": {"leaf": 2}}}, True),
        ({"next": {"leaf": "2"}}, False),
        ({"next": {"next": {"other": 1}}}, False),
    ):
        for contract in (Contract("own", tree), Contract("shown", shown)):
            assert (contract.faults(message) == ()) is good, (contract.name, message)


def test_limits_come_from_the_settings() -> None:
    limits = {"MLSERVICE_GATEWAY__MAX_REQUEST_BYTES": "777", "MLSERVICE_GATEWAY__DEADLINE_MS": "31"}
    text = json.dumps(document_of(CLOSED, **limits))
    assert "more than 777 bytes" in text
    assert "may take 31 ms" in text


def test_an_example_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "request.broken.json").write_text("{", "utf-8")
    with pytest.raises(ContractError, match=r"request\.broken\.json: cannot be read"):
        load_examples(tmp_path, "request")


# Problem details -------------------------------------------------------------------------


ODD: list[Any] = [2**70, {1: 2}, {(1, 2): 3}, "\ud800", float("nan"), {1, 2}, object(), b"x"]
"""What an owner's check may show and JSON cannot hold."""


@pytest.mark.parametrize(
    "error",
    [
        NotJson("no"),
        Unavailable("later"),
        BrokenContract([Fault("a", 1e300, "x"), Fault("", None, "")]),
        *(BrokenContract([Fault("a", value, "x")]) for value in ODD),
        BrokenContract([Fault("\ud800", 1, "\ud800")]),
    ],
)
def test_a_problem_keeps_the_form_that_is_documented(error: RequestError) -> None:
    assert PROBLEM_CONTRACT.faults(json.loads(problem_body(error, "r"))) == ()
    assert PROBLEM_CONTRACT.faults({**json.loads(problem_body(error, "r")), "status": "400"})


# What is served --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(make_toy: MakeToy) -> Iterator[str]:
    """A gateway whose model takes 150 ms."""
    toy = make_toy()
    slow = free_ports({**toy.environ, "TOY_DELAY": "0.15"})
    with LocalService(toy.folder, slow, toy.train(), toy.folder / "logs") as service:
        yield service.url


@pytest.fixture(scope="module")
def lonely(make_toy: MakeToy) -> Iterator[str]:
    """A gateway without a worker."""
    toy = make_toy()
    environ = free_ports(toy.environ)
    process = toy.start("serve", "gateway", **environ)
    try:
        address = f"http://127.0.0.1:{environ['MLSERVICE_GATEWAY__PORT']}"
        _wait(address, process)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait(address: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            httpx2.get(f"{address}/live")
            return
        except httpx2.TransportError:
            assert process.poll() is None, "it ended"
            assert time.monotonic() < end, "it did not start in time"
            time.sleep(0.05)


def ask(address: str, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
    return httpx2.request(method, f"{address}{path}", content=content, headers=headers, timeout=20)


ALL = {"X-Request-Id": "a.1", "X-User-Id": "ann", "X-Debug-Timing": "1"}
PREDICT, REWARDS = "/v1/predict", "/v1/rewards"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", PREDICT, {"x": 0.5}, {}, 200),
        ("POST", PREDICT, {"x": 0.5}, ALL, 200),
        ("POST", PREDICT, b"{", {}, 400),
        ("POST", PREDICT, {"x": 0.5}, {"X-User-Id": ""}, 400),
        ("GET", PREDICT, None, {}, 405),
        ("POST", PREDICT, b" " * 1_100_000, {}, 413),
        ("POST", PREDICT, {"x": 7, "y": [1]}, {}, 422),
        ("POST", PREDICT, {"x": 0.5, "trouble": "nan"}, {}, 500),
        ("POST", PREDICT, {"x": 0.5, "note": "bug"}, {}, 500),
        ("POST", PREDICT, {"x": 0.5}, {"X-Request-Timeout-Ms": "40"}, 504),
        ("POST", REWARDS, {"request_id": "a.1", "reward": 1}, {}, 202),
        ("POST", REWARDS, b"{", {}, 400),
        ("PUT", REWARDS, {}, {}, 405),
        ("POST", REWARDS, b" " * 1_100_000, {}, 413),
        ("POST", REWARDS, {"reward": 1}, {}, 422),
        ("GET", "/live", None, {}, 200),
        ("POST", "/live", {}, {}, 405),
        ("GET", "/ready", None, {}, 200),
        ("POST", "/ready", {}, {}, 405),
    ],
)
def test_what_is_answered_is_documented_as_it_is(
    url: str, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    answer = ask(url, method, path, body, headers)
    assert answer.status_code == status
    check_documented(ask(url, "GET", "/openapi.json", None, {}).json(), path, answer)


@pytest.mark.parametrize(
    ("method", "path", "body"), [("POST", PREDICT, {"x": 0.5}), ("GET", "/ready", None)]
)
def test_a_gateway_without_a_worker_answers_as_documented(
    lonely: str, method: str, path: str, body: Any
) -> None:
    answer = ask(lonely, method, path, body, {})
    assert answer.status_code == 503
    check_documented(ask(lonely, "GET", "/openapi.json", None, {}).json(), path, answer)


def check_documented(document: dict[str, Any], path: str, answer: httpx2.Response) -> None:
    """Status, type, body and special headers of an answer are what the document says."""
    (operation,) = document["paths"][path].values()
    response = resolved(document, operation["responses"][str(answer.status_code)])
    kind = answer.headers["content-type"]
    schema = {**response["content"][kind]["schema"], "components": document["components"]}
    assert Contract("answer", schema).faults(answer.json()) == ()
    special = {"allow", "retry-after", "x-fallback", "server-timing"} & answer.headers.keys()
    assert special <= {name.lower() for name in response.get("headers", {})}
    for name, header in response.get("headers", {}).items():
        if resolved(document, header)["schema"]["type"] == "integer":
            assert int(answer.headers[name]) >= 1
    if answer.status_code == 405:
        methods = {method.upper() for method in document["paths"][path]}
        assert methods == {answer.headers["allow"]}


def resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    for part in found.get("$ref", "#").split("/")[1:]:
        document = document[part]
    return document if "$ref" in found else found


def test_a_path_that_is_not_there_is_a_problem_too(url: str) -> None:
    answer = ask(url, "GET", "/nothing", None, {"X-Request-Id": "mine"})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:mlservice:problem:not_found")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == "mine"
    assert PROBLEM_CONTRACT.faults(answer.json()) == ()


def test_the_documented_bounds_of_headers_are_those_that_are_kept(url: str) -> None:
    document = ask(url, "GET", "/openapi.json", None, {}).json()
    parameters = document["components"]["parameters"]
    longest = parameters["X-User-Id"]["schema"]["maxLength"]
    most = parameters["X-Request-Timeout-Ms"]["schema"]["maximum"]
    for name, good, bad in (
        ("X-User-Id", "u" * longest, "u" * (longest + 1)),
        ("X-Request-Timeout-Ms", str(most), str(most + 1)),
    ):
        assert ask(url, "POST", PREDICT, {"x": 0.5}, {name: good}).status_code == 200
        assert ask(url, "POST", PREDICT, {"x": 0.5}, {name: bad}).status_code == 400


# The page --------------------------------------------------------------------------------


def test_the_page_and_all_it_needs_come_from_the_gateway_itself(url: str) -> None:
    page = ask(url, "GET", "/docs", None, {})
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text, "an address of another host"
    needed = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.text)
    assert [name.removeprefix("docs/") for name in needed] == [
        "swagger-ui.css", "favicon-32x32.png", "swagger-ui-bundle.js", "openapi.json",
    ]  # fmt: skip
    for name in needed:
        assert ask(url, "GET", f"/{name}", None, {}).status_code == 200
    assert ask(url, "GET", "/docs/__init__.py", None, {}).status_code == 404


def test_the_browser_is_told_to_refuse_every_other_host(url: str) -> None:
    policy = ask(url, "GET", "/docs", None, {}).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "script-src 'self' 'sha256-" in policy


def test_the_command_prints_the_same_document_as_the_gateway_serves(url: str, toy: Toy) -> None:
    printed = toy.run("api", "show")
    assert printed.returncode == 0, printed.stderr
    assert json.loads(printed.stdout) == ask(url, "GET", "/openapi.json", None, {}).json()
