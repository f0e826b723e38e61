"""The values of the jobs' HCL variables: from settings, environment, var file and command line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from mlservice.cluster import Nomad
from mlservice.deploy.clusters import Clusters
from mlservice.deploy.plan import crons, declared_variables
from mlservice.deploy.variables import as_hcl, given, read_var_file
from mlservice.models.registry import NO_MODEL, Registry
from mlservice.settings import Settings

_FROM_ENVIRONMENT = "NOMAD_VAR_"


def service_variables(
    settings: Settings, environ: Mapping[str, str], env: str | None, var: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables as HCL, the later over the earlier.

    They come from the settings, from ``NOMAD_VAR_name`` of the environment, from the var file of
    the environment ``env`` (staging ...), and from ``var``. Nomad has the same order. Raises
    ``SettingsError``.
    """
    folder = settings.folder / "nomad"
    kinds = declared_variables(folder)
    values = {
        "crons": as_hcl(crons(settings.pipeline.retrain_every)),
        "reload": as_hcl(settings.models.reload),
        "serves": as_hcl(settings.models.serves),
        "version": as_hcl(_version(settings.service.name)),
    }
    for name, kind in kinds.items():
        if (text := environ.get(f"{_FROM_ENVIRONMENT}{name}")) is not None:
            values[name] = given(text, kind)
    if env:
        values |= read_var_file(folder / f"{env}.vars.hcl")
    for name, text in var.items():
        values[name] = given(text, kinds.get(name, "string"))
    return values


def cluster_variables(clusters: Clusters[Nomad]) -> dict[str, str]:
    """Return the variables that tell the jobs of the batch cluster where the services are."""
    return {
        "services_namespace": as_hcl(clusters.services.namespace),
        "services_region": as_hcl(clusters.services.region),
    }


def model_variable(registry: Registry) -> dict[str, str]:
    """Return the variable with the model that serves, for rolling; raises ``ClusterError``."""
    current = registry.current()
    return {"model": as_hcl(current.encode() if current else NO_MODEL)}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "0.0.0"
