"""Whatever JSON is answered, decoding gives a value or one error with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlservice.cluster import decoding
from mlservice.cluster.fields import decode_each
from mlservice.errors import ClusterError

NAMES = st.sampled_from([
    "ID", "Name", "Type", "Status", "Stop", "Meta", "Periodic", "ParameterizedJob", "JobSummary",
    "Summary", "Children", "Running", "CreateIndex", "JobModifyIndex", "ParentID", "TaskGroups",
    "Tasks", "KillTimeout", "TaskStates", "Events", "Details", "exit_code", "oom_killed", "signal",
    "Diff", "Fields", "Objects", "FailedTGAllocs", "DimensionExhausted", "QuotaExhausted",
    "Drivers", "Healthy", "config", "Client", "TemplateConfig", "ConsulRetry", "FunctionDenylist",
    "DispatchedJobID", "Terminated", "Policies",
])  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | NAMES | st.text(max_size=5)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=25,
)
DECODERS: list[Callable[[object], Any]] = [
    decoding.decode_spec,
    decoding.decode_job,
    decoding.decode_dispatched,
    decoding.decode_plan,
    decoding.decode_evaluations,
    decoding.decode_deployment,
    decoding.decode_allocations,
    decoding.decode_nodes,
    decoding.decode_agent,
    decoding.decode_token,
    decoding.decode_oversubscription,
    lambda found: list(decode_each("the jobs", found, decoding.decode_listed)),
]


@pytest.mark.parametrize("number", range(len(DECODERS)))
@given(found=JSON)
def test_any_json_is_a_value_or_an_error_with_the_remedy(number: int, found: object) -> None:
    try:
        DECODERS[number](found)
    except ClusterError as error:
        assert "check that the address is that of Nomad's API" in str(error)


@given(st.lists(JSON, max_size=5))
def test_a_bad_item_never_costs_a_good_one(items: list[object]) -> None:
    good = {"ID": "good", "Status": "running"}
    found = decode_each("the jobs", [*items, good, *items], decoding.decode_listed)
    assert "good" in [job.name for job in found]
