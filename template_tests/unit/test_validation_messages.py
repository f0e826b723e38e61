"""Messages on a routing policy that cannot be used: they name a field that is in the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlservice.deploy.operator_settings import decode_policy
from mlservice.errors import LiveError
from mlservice.live.file import decode_live

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a negative weight": (
        {"policy": "weights", "weights": {"stable": -1}},
        "weights.stable = -1: input should be greater than or equal to 0",
    ),
    "a share above 1": (
        {"policy": "canary", "share": 2},
        "share = 2: input should be less than or equal to 1",
    ),
    "an unknown policy": ({"policy": "x"}, "policy = 'x': give one of 'weights', 'canary'"),
    "no policy": ({"weights": {"stable": 1}}, "policy: is missing: add it"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_policy_that_cannot_be_used_is_explained_by_its_fields(case: str) -> None:
    policy, words = WRONG[case]
    with pytest.raises(LiveError) as alone:
        decode_policy(policy, "the routing")
    assert f"\n  {words}" in str(alone.value)
    with pytest.raises(LiveError) as in_file:
        decode_live(json.dumps({"format": 1, "routing": policy}).encode(), Path("live.json"))
    assert f"\n  routing.{words}" in str(in_file.value)


def test_a_rule_between_fields_is_explained_without_pythons_words() -> None:
    policy = {"policy": "canary", "share": 0.1, "canary": "a", "stable": "a"}
    with pytest.raises(LiveError, match="canary and stable are both 'a': name two versions") as one:
        decode_policy(policy, "the routing")
    assert "alue error" not in str(one.value)
