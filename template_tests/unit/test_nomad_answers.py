"""Nomad's answers become frozen values, whatever a version or a cluster leaves out of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mlservice.cluster import JobSpec, ListedJob, TaskState, Termination, Unplaced
from mlservice.cluster.decoding import (
    decode_agent,
    decode_allocations,
    decode_deployment,
    decode_evaluations,
    decode_job,
    decode_listed,
    decode_plan,
)
from mlservice.cluster.fields import Fields, decode_each
from mlservice.errors import ClusterError


def listed(*items: object) -> list[ListedJob]:
    """The jobs of a listing."""
    return list(decode_each("the jobs", list(items), decode_listed))


def ended(**details: str) -> dict[str, Any]:
    """An allocation whose task was terminated with these details."""
    event = {"Type": "Terminated", "Details": details, "DisplayMessage": "Exit Code: 1"}
    return {"ID": "a", "TaskStates": {"job": {"Events": [event]}}}


def test_null_and_missing_fields_are_empty() -> None:
    bare = {"ID": "j", "Meta": None, "JobSummary": None, "ParentID": None, "Stop": None}
    assert listed(bare) == listed({"ID": "j"}) == [ListedJob("j")]


def test_null_is_an_empty_list() -> None:
    assert decode_allocations(None) == []
    assert decode_evaluations(None) == []


def test_an_allocation_that_never_reported_has_no_tasks() -> None:
    (found,) = decode_allocations([{"ID": "a", "ClientStatus": "pending", "TaskStates": None}])
    assert found.tasks == {}


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"exit_code": "3", "signal": "0"}, Termination(3, 0, out_of_memory=False)),
        ({"exit_code": "137", "signal": "9"}, Termination(137, 9, out_of_memory=False)),
        ({"oom_killed": "true"}, Termination(0, 0, out_of_memory=True)),
        ({"exit_code": "many"}, Termination(0, 0, out_of_memory=False)),
    ],
)
def test_the_details_of_an_event_tell_how_a_task_ended(
    details: dict[str, str], expected: Termination
) -> None:
    (found,) = decode_allocations([ended(**details)])
    assert found.tasks["job"] == TaskState(expected, "Exit Code: 1")


def test_allocations_come_the_oldest_first() -> None:
    items = [{"ID": name, "CreateIndex": index} for name, index in (("b", 9), ("a", 3))]
    assert [allocation.id for allocation in decode_allocations(items)] == ["a", "b"]


def test_a_bad_item_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    items: list[object] = [ended(), {"ID": 7}, "none", {**ended(), "ID": "b", "TaskStates": []}]
    with caplog.at_level(logging.WARNING):
        assert [allocation.id for allocation in decode_allocations(items)] == ["a"]
    assert "ID = 7: Nomad should answer a text here" in caplog.text
    assert len(caplog.records) == 3


def test_a_bad_event_costs_itself_alone() -> None:
    allocation = ended(exit_code="2")
    allocation["TaskStates"]["job"]["Events"].append(5)
    (found,) = decode_allocations([allocation])
    assert found.tasks["job"].termination == Termination(2, 0, out_of_memory=False)


def test_a_child_with_a_bad_field_is_still_listed_and_alive() -> None:
    (found,) = listed({"ID": "p/dispatch-1", "Status": "running", "Meta": [1]})
    assert found == ListedJob("p/dispatch-1")
    assert found.alive


def test_an_answer_of_another_service_is_an_error_with_the_remedy() -> None:
    answers: list[object] = [[], "ok", {"ID": ""}, {"JobVersion": 3}]
    for answer in answers:
        with pytest.raises(ClusterError, match="check that the address is that of Nomad's API"):
            decode_deployment(answer)
    with pytest.raises(ClusterError, match="a list here"):
        list(decode_each("the jobs", {"error": 1}, decode_listed))


def test_a_truth_value_is_no_number() -> None:
    with pytest.raises(ClusterError, match="Version = True"):
        decode_job({"ID": "j", "Version": True})


def test_a_listing_counts_allocations_over_all_groups_and_children_of_a_parent() -> None:
    groups = {"a": {"Running": 1, "Queued": 0}, "b": {"Running": 2, "Lost": 1}, "c": None}
    children = {"Pending": 0, "Running": 2, "Dead": 5}
    service, parent = listed(
        {"ID": "s", "Type": "service", "JobSummary": {"Summary": groups, "Children": None}},
        {"ID": "p", "Type": "batch", "ParameterizedJob": True,
         "JobSummary": {"Summary": {}, "Children": children}},
    )  # fmt: skip
    assert (service.kind, dict(service.counts)) == ("service", {"running": 3, "lost": 1})
    assert (parent.kind, dict(parent.counts)) == ("parameterized", {"running": 2, "dead": 5})


def test_a_plan_lists_its_differences_by_path() -> None:
    field = {"Type": "Edited", "Name": "CPU", "Old": "1", "New": "2"}
    same = {"Type": "None", "Name": "Disk", "Old": "3", "New": "3"}
    task = {"Type": "Edited", "Name": "job", "Objects": [
        {"Type": "Edited", "Name": "Resources", "Fields": [field, same]},
    ]}  # fmt: skip
    group = {"Type": "Edited", "Name": "g", "Tasks": [task], "Fields": None}
    found = decode_plan({
        "Diff": {"Type": "Edited", "TaskGroups": [group]},
        "JobModifyIndex": 12,
        "FailedTGAllocs": {"g": {"NodesEvaluated": 2, "DimensionExhausted": {"memory": 2}}},
        "Warnings": "1 warning:\n\n* old",
    })  # fmt: skip
    assert found.change == "edited"
    assert [(d.kind, d.path, d.old, d.new) for d in found.differences] == [
        ("edited", "g.job.Resources.CPU", "1", "2")
    ]
    assert (found.index, found.warnings) == (12, "1 warning: * old")
    assert found.unplaced == {"g": Unplaced(2, {"memory": 2}, {}, ())}


def test_an_agent_that_hides_its_configuration_leaves_it_unknown() -> None:
    assert decode_agent({"config": None, "member": {"Tags": {"build": "1.9.7"}}}).version == "1.9.7"
    hidden = decode_agent({"config": {"Client": {"TemplateConfig": None}}})
    assert (hidden.consul_attempts, hidden.denied_functions) == (None, None)
    told = {"ConsulRetry": {"Attempts": 0}, "FunctionDenylist": []}
    shown = decode_agent({"config": {"Client": {"TemplateConfig": told}}})
    assert (shown.consul_attempts, shown.denied_functions) == (0, frozenset())


def test_a_specification_is_sent_back_as_it_came_but_for_its_meta() -> None:
    document = {"ID": "j", "Type": "batch", "Meta": None, "Unknown": [1]}
    spec = decode_job(document).spec.with_meta("model", "v1")
    assert spec == JobSpec("j", "batch", {"model": "v1"}, {**document, "Meta": {"model": "v1"}})
    assert document["Meta"] is None


def test_a_field_that_is_missing_must_not_be_required_text() -> None:
    with pytest.raises(ClusterError, match="ID = None"):
        Fields("the job", {}).required("ID")
