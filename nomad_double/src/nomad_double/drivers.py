"""The ``config`` of a task for each driver, and the command that it leads to.

Nomad checks a driver's configuration only when a task starts. A misspelled key is registered
without a message and fails there, and so it does here. The command runs on this machine, whatever
the driver is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_RAW_EXEC = (
    "command", "args", "cgroup_v1_override", "cgroup_v2_override", "oom_score_adj", "work_dir",
    "denied_envvars",
)  # fmt: skip
_EXEC = ("command", "args", "pid_mode", "ipc_mode", "cap_add", "cap_drop", "work_dir")
_DOCKER = (
    "image", "advertise_ipv6_address", "args", "auth", "auth_soft_fail", "cap_add", "cap_drop",
    "cgroupns", "command", "container_exists_attempts", "cpu_cfs_period", "cpu_hard_limit",
    "cpuset_cpus", "devices", "disable_log_collection", "dns_options", "dns_search_domains",
    "dns_servers", "entrypoint", "extra_hosts", "force_pull", "group_add", "healthchecks",
    "hostname", "image_pull_timeout", "init", "interactive", "ipc_mode", "ipv4_address",
    "ipv6_address", "isolation", "labels", "load", "logging", "mac_address", "memory_hard_limit",
    "mount", "mounts", "network_aliases", "network_mode", "oom_score_adj", "pid_mode", "pids_limit",
    "ports", "privileged", "readonly_rootfs", "runtime", "security_opt", "shm_size", "storage_opt",
    "sysctl", "tty", "ulimit", "userns_mode", "uts_mode", "volume_driver", "volumes", "work_dir",
)  # fmt: skip
_KNOWN = {"raw_exec": _RAW_EXEC, "exec": _EXEC, "docker": _DOCKER}
_REQUIRED = {"raw_exec": "command", "exec": "command", "docker": "image"}
_UNFIT = "Incorrect attribute value type: Inappropriate value for"
_TEXTS = ("command", "image", "work_dir", "network_mode")
_LISTS = ("args", "ports", "volumes")


class ConfigError(Exception):
    """A configuration that the driver cannot read. The task fails validation."""


class DriverError(Exception):
    """A configuration that the driver reads and refuses. The task fails to start."""


def check_config(driver: str, config: Mapping[str, Any], ports: Sequence[str]) -> None:
    """Raise ``ConfigError`` or ``DriverError`` if the driver would not start the task."""
    errors = [
        f'Invalid label: No argument or block type is named "{name}".'
        for name in config
        if name not in _KNOWN.get(driver, ())
    ]
    needed = _REQUIRED.get(driver)
    if needed and needed not in config:
        errors.append(
            f'Missing required argument: The argument "{needed}" is required, but no definition '
            "was found."
        )
    errors += [
        f'{_UNFIT} attribute "{name}": string required.'
        for name in _TEXTS
        if name in config and isinstance(config[name], list | dict)
    ]
    errors += [
        f'{_UNFIT} attribute "{name}": list of string required.'
        for name in _LISTS
        if name in config and not isinstance(config[name], list)
    ]
    if errors:
        lines = "\n\t".join(["* failed to parse config: ", *(f"* {error}" for error in errors)])
        raise ConfigError(f"{len(errors) + 1} errors occurred:\n\t{lines}\n\n")
    if driver == "docker":
        _check_docker(config, ports)


def command_line(driver: str, config: Mapping[str, Any]) -> list[str]:
    """Return the command that runs in place of the container or executable."""
    words = [str(word) for word in config.get("args") or []]
    if config.get("command"):
        words.insert(0, str(config["command"]))
    if driver == "docker":
        entry = config.get("entrypoint") or []
        words[:0] = entry if isinstance(entry, list) else [str(entry)]
    if not words:
        raise DriverError(
            "the double cannot run an image's own command: give the task a command or args"
        )
    return words


def _check_docker(config: Mapping[str, Any], ports: Sequence[str]) -> None:
    if not config["image"]:
        raise DriverError("image name required for docker driver")
    for label in config.get("ports") or []:
        if label not in ports:
            raise DriverError(f'Port "{label}" not found, check network block')
    for volume in config.get("volumes") or []:
        source = str(volume).split(":")[0]
        if source.startswith("/"):
            raise DriverError(
                "failed to create container configuration for image "
                f'"{config["image"]}": volumes are not enabled; cannot mount host path: "{volume}"'
            )
