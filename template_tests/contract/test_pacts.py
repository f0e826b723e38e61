"""Consumers' pacts against the running toy, and our pacts against servers that break them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pact import Pact, Verifier, match

from mlservice.contracts import Contract
from mlservice.errors import ContractError
from mlservice.local import LocalService, free_ports
from mlservice.owner import Upstream
from mlservice.testing.consumers import Provider
from mlservice.testing.states import NO_WORKER, SERVED
from mlservice.testing.upstreams import Example, example, needed, write_pacts
from template_tests.support.pact_broker import Broker, serving
from template_tests.support.toy_service import SERVICE, MakeToy, Toy, clean_environ

SCORE = {"prediction": {"score": match.number(0.5)}}


@pytest.fixture(scope="module")
def trained(make_toy: MakeToy) -> tuple[Toy, str]:
    toy = make_toy()
    return toy, toy.train()


@pytest.fixture(scope="module")
def service(
    trained: tuple[Toy, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalService]:
    toy, model = trained
    logs = tmp_path_factory.mktemp("logs")
    with LocalService(toy.folder, free_ports(toy.environ), model, logs) as running:
        yield running


@pytest.fixture
def provider(service: LocalService) -> Provider:
    return Provider("toy", service, {})


def pact_file(
    folder: Path,
    *,
    name: str = "toy",
    state: str = SERVED,
    asks: dict[str, Any] | None = None,
    status: int = 200,
    answer: Any = None,
) -> Path:
    pact = Pact("site", name)
    request = pact.upon_receiving("a question").given(state).with_request("POST", "/v1/predict")
    request.with_body(asks or {"x": 0.5}, "application/json").will_respond_with(status)
    if answer is not None:
        request.with_body(answer, "application/json")
    pact.write_file(folder, overwrite=True)
    return folder / f"site-{name}.json"


# Consumers ---------------------------------------------------------------------------------


def test_a_pact_is_kept_in_each_state_and_the_service_comes_back_from_it(
    provider: Provider, tmp_path: Path
) -> None:
    for _ in range(2):
        assert provider.verify(pact_file(tmp_path, answer=SCORE)) == 1
        assert provider.verify(pact_file(tmp_path, state=NO_WORKER, status=503)) == 1


LESS = {"x": 0.5, "colour": "red"}
BROKEN: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "it sends an unknown field": ({"asks": LESS, "answer": SCORE}, ("colour", "is unknown")),
    "it sends too large a number": ({"asks": {"x": 7}, "answer": SCORE}, ("422", '"x"', "maximum")),
    "it reads a field that is not there": (
        {"answer": {"prediction": {"chance": match.number(0.5)}}},
        ("$.prediction", "missing", "chance"),
    ),
    "it reads a text where a number is": (
        {"answer": {"prediction": {"score": match.like("half")}}},
        ("$.prediction.score",),
    ),
    "it counts on an error that does not come": ({"status": 503}, ("503", "200")),
    "its state is none of ours": ({"state": "the moon is full"}, ("the moon is full", NO_WORKER)),
    "it is meant for somebody else": ({"name": "toi"}, ("provider.name", "'toi'", "'toy'")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_pact_that_is_not_kept_says_what_the_consumer_misses(
    provider: Provider, tmp_path: Path, case: str
) -> None:
    given_pact, words = BROKEN[case]
    path = pact_file(tmp_path, **given_pact)
    with pytest.raises(ContractError) as caught:
        provider.verify(path)
    said = str(caught.value)
    assert all(word in said for word in (*words, path.name)), said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"provider": {"name": "toy"}, "interactions": []}']
)
def test_a_file_that_says_nothing_is_no_pact(
    provider: Provider, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "site.json"
    path.write_text(content, "utf-8")
    with pytest.raises(ContractError, match=r"site\.json: (not a pact|interactions)"):
        provider.verify(path)


def test_the_brokers_pacts_are_verified_and_in_ci_it_is_told_so(
    service: LocalService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = json.loads(pact_file(tmp_path, answer=SCORE).read_text("utf-8"))
    bad = json.loads(pact_file(tmp_path, asks=LESS, answer=SCORE).read_text("utf-8"))
    moon = json.loads(pact_file(tmp_path, state="moonlight", answer=SCORE).read_text("utf-8"))
    ci = {"CI_COMMIT_SHA": "abc", "CI_COMMIT_REF_NAME": "develop"}
    monkeypatch.setenv("PACT_BROKER_TOKEN", "ours")
    laptop, job = Provider("toy", service, {}), Provider("toy", service, ci)
    with serving(Broker([good])) as broker:
        assert laptop.verify(broker.url) == 1
    assert (broker.results, broker.tokens) == ([], {"Bearer ours"})
    selectors = broker.asked[0]["consumerVersionSelectors"]
    assert selectors == [{"mainBranch": True}, {"deployedOrReleased": True}]
    with serving(Broker([])) as empty:
        assert laptop.verify(empty.url) == 0
    with pytest.raises(ContractError, match="the broker"):
        laptop.verify(empty.url)  # it is away now
    with serving(Broker([good])) as told:
        assert job.verify(told.url) == 1
    with serving(Broker([bad])) as strict, pytest.raises(ContractError, match="colour"):
        job.verify(strict.url)
    with serving(Broker([moon])) as dark, pytest.raises(ContractError, match="moonlight"):
        job.verify(dark.url)
    with serving(Broker([bad, moon], pending=True)) as lenient:
        assert job.verify(lenient.url) == 2
    found = [each.results[0] for each in (told, strict, dark, lenient)]
    assert [result["success"] for result in found] == [True, False, False, False]
    assert {result["providerApplicationVersion"] for result in found} == {"abc"}


def test_the_consumers_test_of_the_docs_writes_the_pact_that_a_service_starts_with(
    tmp_path: Path,
) -> None:
    page = (SERVICE / "docs" / "contracts.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "test_site.py").write_text(code, "utf-8")
    environ = {**clean_environ(), "PACT_DO_NOT_TRACK": "true"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_site.py"]
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout.decode()
    (written,) = (tmp_path / "pacts").iterdir()
    (shipped,) = (SERVICE / "contracts" / "consumers").iterdir()
    text = shipped.read_text("utf-8").replace("<<cookiecutter.service_slug>>", "flight-delay")
    ours, theirs = json.loads(text), json.loads(written.read_text("utf-8"))
    assert {**ours, "metadata": 0} == {**theirs, "metadata": 0}


# Upstreams ---------------------------------------------------------------------------------

WEATHER = Contract(
    "weather.schema.json",
    {
        "type": "object",
        "required": ["degrees"],
        "properties": {
            "degrees": {"type": "number", "maximum": 150},
            "hours": {"type": "integer"},
            "clear": {"type": "boolean"},
            "wind": {"type": "object", "properties": {"from": {"type": "string"}}},
            "days": {
                "type": "array",
                "items": {"type": "object", "properties": {"rain": {"type": "number"}}},
            },
        },
    },
)
ANSWER: dict[str, Any] = {
    "degrees": 20,
    "hours": 3,
    "clear": True,
    "wind": {"from": "NW", "gusts": 7},
    "days": [{"rain": 0.5, "sun": 3}, {"rain": 1.5, "sun": 2}],
    "issued_by": "the office",
}
NEEDED = {
    "degrees": 20,
    "hours": 3,
    "clear": True,
    "wind": {"from": "NW"},
    "days": [{"rain": 0.5}, {"rain": 1.5}],
}


def wanted(request: Mapping[str, Any]) -> dict[str, str] | None:
    return {"at": request["place"], "in": "°C & more"} if "place" in request else None


def known(query: Mapping[str, str]) -> Any:
    return {"degrees": 1} if query["at"] == "LGA" else ANSWER if query["at"] == "JFK" else None


def upstream(**more: Any) -> Upstream:
    given_values = {"name": "weather", "path": "/v1/now", "stand_in": known, **more}
    return Upstream(query=wanted, fallback={}, timeout_ms=1, **given_values)


REQUESTS: list[dict[str, Any]] = [{"x": 1}, {"place": "XXX"}, {"place": "LGA"}, {"place": "JFK"}]


def test_a_pact_holds_the_fullest_answer_and_nothing_that_the_schema_does_not_name(
    tmp_path: Path,
) -> None:
    chosen = example(upstream(), WEATHER, REQUESTS)
    assert chosen.query["at"] == "JFK"
    (path,) = write_pacts("toy", [chosen], tmp_path)
    pact = json.loads(path.read_text("utf-8"))
    (interaction,) = pact["interactions"]
    assert interaction["request"]["query"] == {"at": ["JFK"], "in": ["°C & more"]}
    content = interaction["response"]["body"]["content"]
    assert content == {**NEEDED, "days": [{"rain": 0.5}]}
    assert (pact["consumer"], pact["provider"]) == ({"name": "toy"}, {"name": "weather"})


def test_upstreams_of_one_provider_share_a_pact(tmp_path: Path) -> None:
    kinds = [upstream(provider="office"), upstream(name="air", path="/air", provider="office")]
    examples = [example(each, WEATHER, REQUESTS) for each in (*kinds, upstream(name="sea"))]
    paths = write_pacts("toy", examples, tmp_path)
    assert [path.name for path in paths] == ["toy-office.json", "toy-sea.json"]
    assert len(json.loads(paths[0].read_text("utf-8"))["interactions"]) == 2


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, ""),
    "other values": ({"degrees": -7.5, "clear": False, "wind": {"from": "S"}}, ""),
    "a longer list": ({"days": [{"rain": 1}] * 5}, ""),
    "more fields": ({"sunrise": "06:00", "wind": {"from": "S", "chill": 2}}, ""),
    "a number as text": ({"degrees": "20"}, "$.degrees"),
    "a fraction of what is whole": ({"hours": 3.5}, "$.hours"),
    "a flag as number": ({"clear": 1}, "$.clear"),
    "a text as null": ({"wind": {"from": None}}, "$.wind.from"),
    "a renamed field below": ({"wind": {"direction": "S"}}, "$.wind"),
    "a retyped field in a list": ({"days": [{"rain": 1}, {"rain": "much"}]}, "$.days[1].rain"),
    "an object as list": ({"wind": ["S"]}, "$.wind"),
}


@pytest.mark.parametrize("change", [*CHANGES, "without issued_by", "without degrees"])
def test_an_upstream_may_add_what_it_likes_and_break_nothing_that_we_need(
    tmp_path: Path, change: str
) -> None:
    (path,) = write_pacts("toy", [example(upstream(), WEATHER, REQUESTS)], tmp_path)
    removed = change.removeprefix("without ")
    changed, said = CHANGES.get(change, ({}, "degrees" if removed == "degrees" else ""))
    answer = {name: value for name, value in {**ANSWER, **changed}.items() if name != removed}
    output = verified(path, answer)
    assert (said in output) if said else (output == ""), output


def verified(pact: Path, answer: Any) -> str:
    """What pact's verifier has against a provider that gives ``answer``, as its team sees it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        verifier = Verifier("weather", "127.0.0.1").add_source(pact)
        verifier.add_transport(url=f"http://127.0.0.1:{server.server_port}")
        try:
            verifier.verify()
        except RuntimeError:
            return verifier.output(strip_ansi=True)
        finally:
            server.shutdown()
            thread.join()
    return ""


NAMES = st.sampled_from(["a", "b", "wind", "from", "degrees", "items"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, VALUES))
def test_what_is_needed_of_an_answer_is_all_that_its_schema_names(
    more: dict[str, Any],
) -> None:
    named = WEATHER.schema["properties"]
    unnamed = {name: value for name, value in more.items() if name not in named}
    assert needed(WEATHER.schema, {**unnamed, **ANSWER}) == NEEDED
    assert needed(WEATHER.schema, NEEDED) == NEEDED
    assert needed({}, more) == {}


def test_an_upstream_that_never_answers_has_no_pact() -> None:
    with pytest.raises(ContractError, match="weather: stand_in answers none"):
        example(upstream(), WEATHER, [{"place": "XXX"}, {"x": 1}])


def test_a_schema_that_needs_what_it_does_not_name_is_refused() -> None:
    hidden = Contract("weather.schema.json", {"type": "object", "required": ["issued_by"]})
    with pytest.raises(ContractError, match=r"weather\.schema\.json: .*issued_by"):
        example(upstream(), hidden, REQUESTS)


def test_a_pact_is_not_written_where_the_gateway_would_not_take_the_answer(tmp_path: Path) -> None:
    wrong = Example(upstream(), WEATHER, {"at": "JFK"}, {"degrees": 1000})
    with pytest.raises(ContractError, match=r"weather: .*fallback \(contract\)"):
        write_pacts("toy", [wrong], tmp_path)
    assert list(tmp_path.iterdir()) == []
