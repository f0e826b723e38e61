"""Who may ask: tokens, rates, TLS; a client, a gateway and a worker that prove who they are."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mlservice.errors import TooManyRequests, Unauthorized
from mlservice.gateway.admission import Admission
from mlservice.live import Client, digest
from template_tests.support.live_toy import LiveToy, Process, opened, wait_for
from template_tests.support.toy_service import MakeToy


@pytest.fixture
def world(make_toy: MakeToy) -> Iterator[LiveToy]:
    with opened(make_toy()) as made:
        made.publish(made.model(1.0))
        yield made


def client(token: str, **more: Any) -> Client:
    return Client(token_sha256=digest(token.encode()), **more)


def bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {token}".encode()}


@given(st.lists(st.floats(0, 0.5), max_size=60), st.floats(0.5, 50), st.integers(1, 20))
def test_a_client_never_gets_more_than_its_rate_and_what_it_saved(
    pauses: list[float], rate: float, burst: int
) -> None:
    now = [0.0]
    admission = Admission(required=False, clock=lambda: now[0])
    admission.apply({"a": client("t", per_second=rate, burst=burst)})
    admitted = 0
    for pause in pauses:
        now[0] += pause
        try:
            admitted += admission.admit(bearer("t")) == "a"
        except TooManyRequests as error:
            assert error.retry_after >= 1
            limited = now[0]
            now[0] += error.retry_after + 1e-6
            assert admission.admit(bearer("t")) == "a"  # it is true what it was told
            admitted += 1
            assert limited < now[0]
    assert admitted <= burst + rate * now[0] + 1e-6


def test_clients_do_not_take_each_others_rate_and_keep_theirs_over_a_reload() -> None:
    admission = Admission(required=False, clock=lambda: 0.0)
    clients = {"a": client("ta", per_second=1), "b": client("tb", per_second=1)}
    admission.apply(clients)
    assert admission.admit(bearer("ta")) == "a"
    assert admission.admit(bearer("tb")) == "b"
    admission.apply({**clients, "c": client("tc")})
    with pytest.raises(TooManyRequests, match="a may send 1 requests a second"):
        admission.admit(bearer("ta"))
    assert [admission.admit(bearer("tc")) for _ in range(100)] == ["c"] * 100


def test_what_is_saved_up_needs_a_rate() -> None:
    with pytest.raises(ValueError, match="burst = 5 has no effect without per_second"):
        client("t", burst=5)


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic dDp0", b"t", b"\xff\xfe"]
)
def test_a_header_that_holds_no_known_token_is_refused(header: bytes) -> None:
    admission = Admission(required=False)
    admission.apply({"a": client("t")})
    with pytest.raises(Unauthorized):
        admission.admit({b"authorization": header})
    admission.apply(None)
    admission.admit({b"authorization": header})


def ask(
    address: str, token: str = "", context: ssl.SSLContext | None = None, path: str = "/v1/predict"
) -> tuple[int, dict[str, str]]:
    connection: http.client.HTTPConnection
    if context:
        connection = http.client.HTTPSConnection(address, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection(address, timeout=10)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {"x": 0.5} if path == "/v1/predict" else {"request_id": "r", "reward": 1}
    try:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def serving(world: LiveToy, **more: str) -> Process:
    worker = world.start("worker", **more)
    wait_for(worker.serves if not more else lambda: worker.log.exists())
    write(world, worker)
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json", **more)
    wait_for(lambda: gateway.lines("is ready"), 30)
    return gateway


def write(world: LiveToy, worker: Process, **sections: Any) -> None:
    world.write("gateway.json", workers=[worker.address], **sections)


def test_tokens_and_rates_come_and_go_with_the_live_file(world: LiveToy) -> None:
    worker = world.start("worker")
    wait_for(worker.serves)
    write(world, worker)
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json")
    wait_for(gateway.ready)
    assert ask(gateway.address)[0] == 200
    known = {
        "shop": {"token_sha256": digest(b"s3cret")},
        "slow": {"token_sha256": digest(b"slow"), "per_second": 0.5},
    }
    write(world, worker, clients=known)
    assert wait_for(lambda: ask(gateway.address)[0] == 401) < 1
    assert ask(gateway.address)[1]["www-authenticate"] == "Bearer"
    assert ask(gateway.address, "s3cret")[0] == 200
    assert ask(gateway.address, path="/v1/rewards")[0] == 401
    assert ask(gateway.address, "s3cret", path="/v1/rewards")[0] == 202
    assert ask(gateway.address, "slow")[0] == 200
    status, headers = ask(gateway.address, "slow")
    assert (status, headers["retry-after"]) == (429, "2")
    assert gateway.ready()  # whoever looks after the service needs no token
    write(world, worker, clients={"shop": known["shop"]})
    assert wait_for(lambda: ask(gateway.address, "slow")[0] == 401) < 1
    assert ask(gateway.address, "s3cret")[0] == 200


def test_where_a_token_is_required_nobody_is_let_in_without_clients(world: LiveToy) -> None:
    gateway = serving(world, MLSERVICE_ACCESS__REQUIRED="true")
    assert ask(gateway.address)[0] == 401


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(authority: trustme.CA, folder: Path, name: str) -> dict[str, str]:
    """PEM files of a key, a certificate for ``name`` and the authority."""
    issued = authority.issue_cert(name)
    files = {kind: folder / f"{name}.{kind}.pem" for kind in ("key", "cert", "ca")}
    issued.private_key_pem.write_to_path(files["key"])
    files["cert"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(files["ca"])
    return {kind: str(path) for kind, path in files.items()}


def internal(files: dict[str, str]) -> dict[str, str]:
    return {f"MLSERVICE_INTERNAL_TLS__{kind.upper()}": path for kind, path in files.items()}


def test_gateway_and_worker_prove_to_each_other_who_they_are(
    world: LiveToy, authority: trustme.CA
) -> None:
    own = internal(certificate(authority, world.toy.folder, "mlservice-worker"))
    gateway = serving(world, **own)
    assert ask(gateway.address)[0] == 200
    # One without a certificate, one of another authority, one with another name: none is trusted.
    worker = gateway_knows(world)
    stranger = internal(certificate(trustme.CA(), world.toy.folder, "mlservice-worker"))
    for environ in ({}, stranger):
        other = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json", **environ)
        wait_for(partial(other.lines, "does not answer"))
        assert ask(other.address)[0] == 503
    odd = internal(certificate(authority, world.toy.folder, "somebody-else"))
    imposter = world.start("worker", **odd)
    world.write("gateway.json", workers=[imposter.address])
    wait_for(lambda: gateway.lines(f"{imposter.address} does not answer"))
    assert not gateway.lines(f"{imposter.address} is ready")
    world.write("gateway.json", workers=[worker])


def gateway_knows(world: LiveToy) -> str:
    live = json.loads((world.toy.folder / "gateway.json").read_text("utf-8"))
    return str(live["workers"][0])


def test_callers_prove_who_they_are_by_their_certificates(
    world: LiveToy, authority: trustme.CA
) -> None:
    files = certificate(authority, world.toy.folder, "127.0.0.1")
    environ = {
        "MLSERVICE_ACCESS__TLS_CERT": files["cert"],
        "MLSERVICE_ACCESS__TLS_KEY": files["key"],
        "MLSERVICE_ACCESS__TLS_CLIENT_CA": files["ca"],
    }
    worker = world.start("worker")
    wait_for(worker.serves)
    write(world, worker)
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json", **environ)
    wait_for(lambda: gateway.lines("is ready"))
    context = ssl.create_default_context(cafile=files["ca"])
    with pytest.raises(OSError, match=r"(?i)certificate|reset|closed|eof"):
        ask(gateway.address, context=context)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(gateway.address)
    caller = authority.issue_cert("caller@example.com")
    caller.configure_cert(context)
    assert ask(gateway.address, context=context)[0] == 200


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MLSERVICE_ACCESS__TLS_CERT": "a.pem"}, "set both"),
        (
            {"MLSERVICE_ACCESS__TLS_CERT": "a.pem", "MLSERVICE_ACCESS__TLS_KEY": "b.pem"},
            "[access] tls_cert",
        ),
        ({"MLSERVICE_INTERNAL_TLS__CERT": "a.pem"}, "cert, key and ca"),
        (
            {f"MLSERVICE_INTERNAL_TLS__{name}": "a.pem" for name in ("CERT", "KEY", "CA")},
            "[internal_tls] key",
        ),
    ],
)
def test_certificates_that_are_not_there_are_named(
    world: LiveToy, environ: dict[str, str], words: str
) -> None:
    done = world.toy.run("serve", "gateway", **environ)
    assert done.returncode == 2
    assert words in done.stderr


def test_what_callers_see_of_an_error_holds_nothing_of_the_inside(world: LiveToy) -> None:
    worker = world.start("worker")
    wait_for(worker.serves)
    write(world, worker)
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json")
    wait_for(gateway.ready)
    worker.process.kill()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        status, answer = gateway.ask()
        assert status == 503
        assert "127.0.0.1" not in json.dumps(answer)
    connection = http.client.HTTPConnection(gateway.address, timeout=5)
    connection.request("GET", "/ready")
    assert b"127.0.0.1" not in connection.getresponse().read()
    connection.close()
