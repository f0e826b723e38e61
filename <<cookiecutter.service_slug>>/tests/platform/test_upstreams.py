"""Laws for every upstream, and the pacts for the teams of the upstreams."""

import shutil
from typing import Any

import numpy as np
from hypothesis import given

from mlservice.contracts import Contract
from mlservice.demo.samples import demo_period, load_samples
from mlservice.errors import InvalidRequest
from mlservice.owner import RequestCode, Upstream, load_upstreams
from mlservice.pipeline import parse_period
from mlservice.protocol.packing import RowPacker
from mlservice.settings import Settings
from mlservice.testing import messages
from mlservice.testing.upstreams import example, needed, write_pacts


def test_every_request_that_lacks_an_answer_can_do_with_the_fallback(
    settings: Settings, request_contract: Contract, request_side: RequestCode
) -> None:
    packer = RowPacker(len(request_side.names))
    upstreams = load_upstreams(settings.service.package)

    @given(messages(request_contract))
    def law(message: dict[str, object]) -> None:
        for upstream in upstreams:
            query = upstream.query(message)
            assert query is None or all(isinstance(value, str) for value in query.values())
            if query is not None:
                message = {**message, upstream.name: upstream.fallback}
        try:
            packer.pack(request_side.features(message))
        except InvalidRequest:
            return

    law()


def test_every_stand_in_answers_with_what_is_needed(settings: Settings) -> None:
    for upstream in load_upstreams(settings.service.package):
        contract = contract_of(upstream, settings)
        for request in lacking(upstream, settings):
            query = upstream.query(request)
            answer = upstream.stand_in(query) if query is not None else None
            assert answer is None or contract.faults(answer) == (), upstream.name


def test_the_schema_of_an_upstream_names_all_that_features_read_of_its_answer(
    settings: Settings, request_side: RequestCode
) -> None:
    for upstream in load_upstreams(settings.service.package):
        schema = contract_of(upstream, settings).schema
        for request in lacking(upstream, settings):
            query = upstream.query(request)
            answer = upstream.stand_in(query) if query is not None else None
            if answer is not None:
                whole = request_side.features({**request, upstream.name: answer})
                named = request_side.features({**request, upstream.name: needed(schema, answer)})
                assert np.array_equal(whole, named, equal_nan=True), (
                    f"features() read a field of {answer} that the schema of {upstream.name} does "
                    "not name under 'properties'"
                )


def test_a_pact_for_each_upstream_says_what_the_gateway_asks_and_needs(settings: Settings) -> None:
    folder = settings.state / "pacts"
    shutil.rmtree(folder, ignore_errors=True)
    upstreams = load_upstreams(settings.service.package)
    examples = [
        example(each, contract_of(each, settings), lacking(each, settings)) for each in upstreams
    ]
    for pact in write_pacts(settings.service.name, examples, folder):
        assert pact.is_file()


def contract_of(upstream: Upstream, settings: Settings) -> Contract:
    return Contract.load(settings.contracts / "upstreams" / f"{upstream.name}.schema.json")


def lacking(upstream: Upstream, settings: Settings) -> list[dict[str, Any]]:
    """Real requests without the field that the upstream adds."""
    period = parse_period(demo_period(settings.service.package), settings.pipeline.retrain_every)
    samples = load_samples(settings.service.package)(period, 20)
    return [{k: v for k, v in each.request.items() if k != upstream.name} for each in samples]
