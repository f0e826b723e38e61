"""Fills a job in with Nomad's defaults, as its API does before it stores one.

A job in JSON has Nomad's own field names. A field that is null or missing becomes the default, so
two ways to write the same job are the same job, and a plan finds no difference.
"""

from __future__ import annotations

import copy
from typing import Any

from mlservice.jobspec.durations import HOUR, MINUTE, SECOND

Json = dict[str, Any]

_JOB: Json = {
    "Region": "global", "Namespace": "default", "Type": "service", "Priority": 50,
    "AllAtOnce": False, "Datacenters": None, "NodePool": "default", "Constraints": None,
    "Affinities": None, "TaskGroups": None, "Update": None, "Multiregion": None, "Spreads": None,
    "Periodic": None, "ParameterizedJob": None, "Reschedule": None, "Migrate": None, "Meta": None,
    "UI": None, "Stop": False, "ParentID": "", "Dispatched": False, "DispatchIdempotencyToken": "",
    "Payload": None, "ConsulNamespace": "", "VaultNamespace": "", "NomadTokenID": "", "Status": "",
    "StatusDescription": "", "Stable": False, "Version": 0, "SubmitTime": None, "CreateIndex": 0,
    "ModifyIndex": 0, "JobModifyIndex": 0, "VersionTag": None,
}  # fmt: skip
_GROUP: Json = {
    "Name": "", "Count": 1, "Constraints": None, "Affinities": None, "Tasks": None, "Spreads": None,
    "Volumes": None, "RestartPolicy": None, "ReschedulePolicy": None, "EphemeralDisk": None,
    "Update": None, "Migrate": None, "Networks": None, "Meta": None, "Services": None,
    "ShutdownDelay": None, "StopAfterClientDisconnect": None, "MaxClientDisconnect": None,
    "Scaling": None, "Consul": None,
}  # fmt: skip
_TASK: Json = {
    "Name": "", "Driver": "", "User": "", "Lifecycle": None, "Config": None, "Constraints": None,
    "Affinities": None, "Env": None, "Services": None, "Resources": None, "RestartPolicy": None,
    "Meta": None, "KillTimeout": 5 * SECOND, "LogConfig": None, "Artifacts": None, "Vault": None,
    "Consul": None, "Templates": None, "DispatchPayload": None, "VolumeMounts": None,
    "CSIPluginConfig": None, "Leader": False, "ShutdownDelay": 0, "KillSignal": "", "Kind": "",
    "ScalingPolicies": None, "Identity": None, "Identities": None, "Actions": None,
}  # fmt: skip
_RESOURCES: Json = {
    "CPU": 100, "Cores": 0, "MemoryMB": 300, "MemoryMaxMB": 0, "DiskMB": 0, "IOPS": 0,
    "Networks": None, "Devices": None, "NUMA": None, "SecretsMB": 0,
}  # fmt: skip
_UPDATE: Json = {
    "Stagger": 30 * SECOND, "MaxParallel": 1, "HealthCheck": "checks",
    "MinHealthyTime": 10 * SECOND, "HealthyDeadline": 5 * MINUTE, "ProgressDeadline": 10 * MINUTE,
    "Canary": 0, "AutoRevert": False, "AutoPromote": False,
}  # fmt: skip
_MIGRATE: Json = {
    "MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": 10 * SECOND,
    "HealthyDeadline": 5 * MINUTE,
}  # fmt: skip
_RESTART: Json = {
    "Attempts": 2, "Interval": 30 * MINUTE, "Delay": 15 * SECOND, "Mode": "fail",
    "RenderTemplates": False,
}  # fmt: skip
_RESTART_BATCH: Json = {**_RESTART, "Attempts": 3, "Interval": 24 * HOUR}
_RESCHEDULE: dict[str, Json] = {
    "service": {
        "Attempts": 0, "Interval": 0, "Delay": 30 * SECOND, "DelayFunction": "exponential",
        "MaxDelay": HOUR, "Unlimited": True,
    },
    "batch": {
        "Attempts": 1, "Interval": 24 * HOUR, "Delay": 5 * SECOND, "DelayFunction": "constant",
        "MaxDelay": 0, "Unlimited": False,
    },
    "other": {
        "Attempts": 0, "Interval": 0, "Delay": 0, "DelayFunction": "", "MaxDelay": 0,
        "Unlimited": False,
    },
}  # fmt: skip
_TEMPLATE: Json = {
    "SourcePath": "", "DestPath": "", "EmbeddedTmpl": "", "ChangeMode": "restart",
    "ChangeScript": None, "ChangeSignal": "", "Once": False, "Splay": 5 * SECOND, "Perms": "0644",
    "Uid": None, "Gid": None, "LeftDelim": "{{", "RightDelim": "}}", "Envvars": False,
    "VaultGrace": 0, "Wait": None, "ErrMissingKey": False,
}  # fmt: skip
_SERVICE: Json = {
    "Name": "", "Tags": None, "CanaryTags": None, "EnableTagOverride": False, "PortLabel": "",
    "AddressMode": "auto", "Address": "", "Checks": None, "CheckRestart": None, "Connect": None,
    "Meta": None, "CanaryMeta": None, "TaggedAddresses": None, "TaskName": "",
    "OnUpdate": "require_healthy", "Provider": "consul", "Cluster": "default", "Identity": None,
}  # fmt: skip
_CHECK: Json = {
    "Name": "", "Type": "", "Command": "", "Args": None, "Path": "", "Protocol": "",
    "PortLabel": "", "Expose": False, "AddressMode": "", "Advertise": "", "Interval": 0,
    "Timeout": 0, "InitialStatus": "", "Notes": "", "TLSServerName": "", "TLSSkipVerify": False,
    "Header": None, "Method": "", "CheckRestart": None, "GRPCService": "", "GRPCUseTLS": False,
    "TaskName": "", "SuccessBeforePassing": 0, "FailuresBeforeCritical": 0,
    "FailuresBeforeWarning": 0, "Body": "", "OnUpdate": "require_healthy",
}  # fmt: skip
_NETWORK: Json = {
    "Mode": "", "Device": "", "CIDR": "", "IP": "", "DNS": None, "ReservedPorts": None,
    "DynamicPorts": None, "Hostname": "", "MBits": 0, "CNI": None,
}  # fmt: skip
_PORT: Json = {
    "Label": "", "Value": 0, "To": 0, "HostNetwork": "default", "IgnoreCollision": False,
}  # fmt: skip
_LOGS: Json = {"MaxFiles": 10, "MaxFileSizeMB": 10, "Enabled": None, "Disabled": False}
_DISK: Json = {"Sticky": False, "SizeMB": 300, "Migrate": False}
_PERIODIC: Json = {
    "Enabled": True, "Spec": "", "Specs": None, "SpecType": "cron", "ProhibitOverlap": False,
    "TimeZone": "UTC",
}  # fmt: skip
_PARAMETERIZED: Json = {"Payload": "optional", "MetaRequired": None, "MetaOptional": None}
_WAIT: Json = {"Min": 5 * SECOND, "Max": 4 * MINUTE}
_CHECK_RESTART: Json = {"Limit": 0, "Grace": SECOND, "IgnoreWarnings": False}
_VAULT: Json = {
    "Policies": None, "Role": "", "Namespace": "", "Cluster": "default", "Env": True,
    "DisableFile": False, "ChangeMode": "restart", "ChangeSignal": "",
    "AllowTokenExpiration": False,
}  # fmt: skip


def canonical(job: Json) -> Json:
    """Return a copy of ``job`` with Nomad's defaults. The case of the keys does not matter."""
    found = _filled(job, _JOB)
    found["ID"] = _get(job, "ID") or ""
    found["Name"] = _get(job, "Name") or found["ID"]
    found["Datacenters"] = found["Datacenters"] or ["*"]
    found["NodePool"] = found["NodePool"] or "default"
    found["Namespace"] = found["Namespace"] or "default"
    kind = found["Type"]
    if found["Periodic"] is not None:
        found["Periodic"] = _filled(found["Periodic"], _PERIODIC)
    if found["ParameterizedJob"] is not None:
        found["ParameterizedJob"] = _filled(found["ParameterizedJob"], _PARAMETERIZED)
        found["ParameterizedJob"]["Payload"] = found["ParameterizedJob"]["Payload"] or "optional"
    update = found["Update"]
    found["Update"] = _filled(update or {}, _UPDATE) if kind == "service" or update else None
    found["TaskGroups"] = [
        _group(group, found, update) for group in found["TaskGroups"] or []
    ] or None
    return copy.deepcopy(found)


def _group(group: Json, job: Json, update: Json | None) -> Json:
    found = _filled(group, _GROUP)
    kind = job["Type"]
    batch = kind in ("batch", "sysbatch")
    restart = _RESTART_BATCH if batch else _RESTART
    found["RestartPolicy"] = _filled(found["RestartPolicy"] or {}, restart)
    reschedule = {**(job["Reschedule"] or {}), **_without_nulls(found["ReschedulePolicy"])}
    found["ReschedulePolicy"] = _filled(reschedule, _RESCHEDULE.get(kind, _RESCHEDULE["other"]))
    found["EphemeralDisk"] = _filled(found["EphemeralDisk"] or {}, _DISK)
    if kind == "service" or found["Update"] or update:
        merged = {**(update or {}), **_without_nulls(found["Update"])}
        found["Update"] = _filled(merged, _UPDATE)
    if kind == "service":
        found["Migrate"] = _filled(found["Migrate"] or job["Migrate"] or {}, _MIGRATE)
    found["Networks"] = [_network(each) for each in found["Networks"] or []] or None
    found["Services"] = _services(found["Services"], found["Name"], job["Name"], "")
    found["Tasks"] = [_task(task, found, job) for task in found["Tasks"] or []] or None
    return found


def _task(task: Json, group: Json, job: Json) -> Json:
    found = _filled(task, _TASK)
    found["Resources"] = _filled(found["Resources"] or {}, _RESOURCES)
    networks = found["Resources"]["Networks"]
    found["Resources"]["Networks"] = [_network(each) for each in networks or []] or None
    restart = {**group["RestartPolicy"], **_without_nulls(found["RestartPolicy"])}
    found["RestartPolicy"] = restart
    found["LogConfig"] = _filled(found["LogConfig"] or {}, _LOGS)
    found["Templates"] = [_template(each) for each in found["Templates"] or []] or None
    if found["Vault"]:
        found["Vault"] = _filled(found["Vault"], _VAULT)
    found["Services"] = _services(found["Services"], group["Name"], job["Name"], found["Name"])
    return found


def _template(template: Json) -> Json:
    found = _filled(template, _TEMPLATE)
    if found["ChangeMode"] == "signal" and found["ChangeSignal"]:
        found["ChangeSignal"] = found["ChangeSignal"].upper()
    if found["Wait"]:
        found["Wait"] = _filled(found["Wait"], _WAIT)
    return found


def _services(services: list[Json] | None, group: str, job: str, task: str) -> list[Json] | None:
    return [_service(each, group, job, task) for each in services or []] or None


def _service(service: Json, group: str, job: str, task: str) -> Json:
    found = _filled(service, _SERVICE)
    found["Name"] = found["Name"] or "-".join(filter(None, (job, group, task)))
    restart = found["CheckRestart"]
    checks = []
    for each in found["Checks"] or []:
        check = _filled(each, _CHECK)
        check["Name"] = check["Name"] or f'service: "{found["Name"]}" check'
        if check["CheckRestart"] or restart:
            merged = {**(restart or {}), **_without_nulls(check["CheckRestart"])}
            check["CheckRestart"] = _filled(merged, _CHECK_RESTART)
        checks.append(check)
    found["Checks"] = checks or None
    return found


def _network(network: Json) -> Json:
    found = _filled(network, _NETWORK)
    for kind in ("ReservedPorts", "DynamicPorts"):
        found[kind] = [_filled(port, _PORT) for port in found[kind] or []] or None
    return found


def _filled(block: Json, defaults: Json) -> Json:
    """Return the block with the missing defaults added; its other fields stay."""
    names = {name.lower(): name for name in defaults}
    given = {names.get(key.lower(), key): value for key, value in block.items()}
    return {**defaults, **_without_nulls(given)}


def _without_nulls(block: Json | None) -> Json:
    return {key: value for key, value in (block or {}).items() if value is not None}


def _get(block: Json, name: str) -> Any:
    return next((value for key, value in block.items() if key.lower() == name.lower()), None)
