"""The errors of a canonical job, and its warnings, in Nomad's words.

Nomad lists all errors of a job at once, and callers show the text to their users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlservice.jobspec.durations import SECOND, format_duration
from nomad_double.cron import CronError, parse_cron
from nomad_double.validate_task import service_errors, task_errors

Json = dict[str, Any]
_TYPES = ("service", "batch", "system", "sysbatch")


def job_errors(job: Json) -> list[str]:
    """Return all reasons to refuse the job; empty if it is accepted."""
    return list(_job(job))


def multierror(errors: list[str]) -> str:
    """Return the errors as hashicorp/go-multierror writes them."""
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    lines = "\n\t".join(f"* {error}" for error in errors)
    return f"{count} occurred:\n\t{lines}\n\n"


def job_warnings(job: Json, *, oversubscription: bool) -> str:
    """Return Nomad's warnings as one text; empty if there are none."""
    found = list(_warnings(job, oversubscription))
    if not found:
        return ""
    count = "1 warning" if len(found) == 1 else f"{len(found)} warnings"
    return f"{count}:\n\n" + "\n".join(f"* {warning}" for warning in found)


def _job(job: Json) -> Iterator[str]:
    name = job["ID"]
    if not name:
        yield "Missing job ID"
    elif " " in name:
        yield "Job ID contains a space"
    elif "\0" in name:
        yield "Job ID contains a null character"
    if not job["Name"]:
        yield "Missing job name"
    if job["Type"] not in _TYPES:
        yield f'Invalid job type: "{job["Type"]}"'
    if not 1 <= job["Priority"] <= 100:
        yield "job priority must be between [1, 100]"
    if not job["TaskGroups"]:
        yield "Missing job task groups"
    yield from _kinds(job)
    yield from _groups(job)
    if job["Payload"]:
        yield "job can't be submitted with a payload, only dispatched"


def _kinds(job: Json) -> Iterator[str]:
    batch = job["Type"] in ("batch", "sysbatch")
    if job["Periodic"]:
        if not batch:
            yield 'Periodic can only be used with "batch" or "sysbatch" scheduler'
        yield from _periodic(job["Periodic"])
    if job["ParameterizedJob"] is not None:
        if not batch:
            yield 'Parameterized job can only be used with "batch" or "sysbatch" scheduler'
        yield from _parameterized(job["ParameterizedJob"])


def _periodic(periodic: Json) -> Iterator[str]:
    if periodic["Spec"] and periodic["Specs"]:
        yield "Only cron or crons may be used"
    specs = periodic["Specs"] or ([periodic["Spec"]] if periodic["Spec"] else [])
    if not specs:
        yield "Must specify a spec"
    for spec in specs:
        try:
            parse_cron(spec)
        except CronError as error:
            yield f'Invalid cron spec "{spec}": {error}'
    if periodic["TimeZone"] not in ("UTC", "GMT", "Etc/UTC", ""):
        yield from _time_zone(periodic["TimeZone"])


def _time_zone(name: str) -> Iterator[str]:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        yield f'Invalid time zone "{name}": unknown time zone {name}'


def _parameterized(block: Json) -> Iterator[str]:
    if block["Payload"] not in ("optional", "required", "forbidden"):
        yield f'Unknown payload requirement: "{block["Payload"]}"'
    both = sorted(set(block["MetaRequired"] or ()) & set(block["MetaOptional"] or ()))
    if both:
        yield (
            "Required and optional meta keys should be disjoint. Following keys exist in both: "
            f"[{' '.join(both)}]"
        )


def _groups(job: Json) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, group in enumerate(job["TaskGroups"] or [], 1):
        if not group["Name"]:
            yield f"Job task group {number} missing name"
        elif group["Name"] in seen:
            first = seen[group["Name"]]
            yield f"Job task group {number} redefines '{group['Name']}' from group {first}"
        seen.setdefault(group["Name"], number)
        if job["Type"] in ("system", "sysbatch") and group["Count"] > 1:
            yield (
                f"Job task group {group['Name']} has count {group['Count']}. Count cannot exceed 1 "
                f"with {job['Type']} scheduler"
            )
        errors = list(_group(group, job))
        if errors:
            yield f"Task group {group['Name']} validation failed: {multierror(errors)}"


def _group(group: Json, job: Json) -> Iterator[str]:
    if group["Count"] < 0:
        yield "Task group count can't be negative"
    if not group["Tasks"]:
        yield "Missing tasks for task group"
    yield from _restart(group["RestartPolicy"])
    if job["Type"] in ("service", "batch"):
        yield from _reschedule(group["ReschedulePolicy"])
    if group["Update"] and job["Type"] == "service":
        yield from _update(group["Update"])
    labels = _labels(group)
    for service in group["Services"] or []:
        yield from service_errors(service, labels)
    names: set[str] = set()
    for task in group["Tasks"] or []:
        if task["Name"] in names:
            yield f"Task {task['Name']} defined more than once in group"
        names.add(task["Name"])
        errors = list(task_errors(task, group, labels, job))
        if errors:
            yield f"Task {task['Name']} validation failed: {multierror(errors)}"


def _labels(group: Json) -> set[str]:
    return {
        port["Label"]
        for network in group["Networks"] or []
        for kind in ("ReservedPorts", "DynamicPorts")
        for port in network[kind] or []
    }


def _restart(policy: Json) -> Iterator[str]:
    if policy["Mode"] not in ("delay", "fail"):
        yield f'Unsupported restart mode: "{policy["Mode"]}"'
    if policy["Attempts"] == 0 and policy["Mode"] != "fail":
        yield f'Restart policy "{policy["Mode"]}" with 0 attempts is ambiguous'
    if policy["Interval"] < 5 * SECOND:
        yield f"Interval can not be less than 5s (got {format_duration(policy['Interval'])})"
    elif policy["Attempts"] * policy["Delay"] > policy["Interval"]:
        yield (
            f"Nomad can't restart the TaskGroup {policy['Attempts']} times in an interval of "
            f"{format_duration(policy['Interval'])} with a delay of "
            f"{format_duration(policy['Delay'])}"
        )


def _reschedule(policy: Json) -> Iterator[str]:
    if not policy["Unlimited"] and not policy["Attempts"]:
        return
    if policy["Delay"] < 5 * SECOND:
        yield f"Delay cannot be less than 5s (got {format_duration(policy['Delay'])})"
    if policy["DelayFunction"] not in ("constant", "exponential", "fibonacci"):
        yield (
            f'Invalid delay function "{policy["DelayFunction"]}", must be one of ["constant" '
            '"exponential" "fibonacci"]'
        )


def _update(update: Json) -> Iterator[str]:
    if update["HealthCheck"] not in ("checks", "task_states", "manual"):
        yield f'Invalid health check given: "{update["HealthCheck"]}"'
    for name, field in (("Max parallel", "MaxParallel"), ("Canary count", "Canary")):
        if update[field] < 0:
            yield f"{name} can not be less than zero: {update[field]} < 0"
    if update["Canary"] == 0 and update["AutoPromote"]:
        yield "Auto Promote requires a Canary count greater than zero"
    minimum, deadline = update["MinHealthyTime"], update["HealthyDeadline"]
    if minimum >= deadline:
        yield (
            "Minimum healthy time must be less than healthy deadline: "
            f"{format_duration(minimum)} > {format_duration(deadline)}"
        )
    progress = update["ProgressDeadline"]
    if progress and deadline >= progress:
        yield (
            "Healthy deadline must be less than progress deadline: "
            f"{format_duration(deadline)} > {format_duration(progress)}"
        )


def _warnings(job: Json, oversubscription: bool) -> Iterator[str]:
    if job["Periodic"] and job["Periodic"]["Spec"]:
        yield "cron is deprecated and may be removed in a future release. Use crons instead"
    groups = job["TaskGroups"] or []
    promotes = [bool(group["Update"] and group["Update"]["AutoPromote"]) for group in groups]
    if any(promotes) and not all(promotes):
        yield "auto_promote must be true for all groups to enable automatic promotion"
    for group in groups:
        for task in group["Tasks"] or []:
            if not oversubscription and task["Resources"]["MemoryMaxMB"] > 0:
                yield (
                    "Memory oversubscription is not enabled; Task "
                    f'"{group["Name"]}.{task["Name"]}" memory_max value will be ignored. '
                    "Update the Scheduler Configuration to allow oversubscription."
                )
            if task["Services"] and not task["ShutdownDelay"]:
                yield (
                    f'task "{task["Name"]}" in group "{group["Name"]}" defines services, but has '
                    "no shutdown_delay set"
                )
