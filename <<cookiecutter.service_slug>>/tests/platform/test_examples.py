"""The examples in contracts/examples/, which the docs page shows, keep their contracts."""

import json

from mlservice.contracts import Contract
from mlservice.settings import Settings


def test_every_example_keeps_the_contract_that_its_name_begins_with(
    settings: Settings, request_contract: Contract, response_contract: Contract
) -> None:
    contracts = {"request": request_contract, "response": response_contract}
    wrong = {}
    for path in sorted((settings.contracts / "examples").glob("*")):
        kind = path.name.partition(".")[0]
        assert kind in contracts, f"{path}: name it request.NAME.json or response.NAME.json"
        if faults := contracts[kind].faults(json.loads(path.read_text("utf-8"))):
            wrong[path.name] = faults
    assert not wrong
