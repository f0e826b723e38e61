"""Parses all jobs of a service without a cluster, for each var file and for two Nomads."""

from __future__ import annotations

from mlservice.cluster import JobSpec, decode_spec
from mlservice.deploy.clusters import Clusters
from mlservice.deploy.plan import crons, plan_jobs
from mlservice.deploy.shutdown_rules import check_shutdown_times
from mlservice.deploy.variables import as_hcl, read_var_file
from mlservice.errors import ClusterRefused
from mlservice.jobspec import HclError, parse_job
from mlservice.pipeline.discovery import find_jobs
from mlservice.settings import Settings

_VERSIONS = ("1.6.10", "2.0.5")
_RELOADS = ("watch", "signal", "rolling")


def check_jobs(settings: Settings) -> None:
    """Parse every job with every var file; raises ``ClusterRefused`` or ``SettingsError``."""
    jobs = find_jobs(settings.service.package)
    folder = settings.folder / "nomad"
    defaults = {"crons": as_hcl(crons(settings.pipeline.retrain_every))}
    for file in (None, *sorted(folder.glob("*.vars.hcl"))):
        values = defaults | (read_var_file(file) if file else {})
        for version in _VERSIONS:
            clusters = Clusters(JobspecParser(version), JobspecParser(version))
            for reload in _RELOADS:
                variables = values | {"reload": as_hcl(reload)}
                for job in plan_jobs(folder, clusters, jobs, variables):
                    check_shutdown_times(job.spec)


class JobspecParser:
    """Parses as a Nomad of some version does, without one."""

    namespace = "default"

    def __init__(self, version: str) -> None:
        """Keep the version of Nomad."""
        self._version = version

    def parse(self, hcl: str, variables: str = "") -> JobSpec:
        """See ``Nomad.parse``."""
        try:
            return decode_spec(parse_job(hcl, variables, self._version))
        except HclError as error:
            words = f"{error} (Nomad {self._version})"
            raise ClusterRefused(words, 400, words) from error
