"""The hook registers a new service on the cluster that the environment names, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlservice.cluster import Nomad
from nomad_double import NomadDouble
from template_tests.support.rendering import cookiecutter, git, run, template_repository
from template_tests.support.servers import consul_server, free_ports
from template_tests.support.toy_service import clean_environ

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]


def test_a_service_is_complete_when_the_cluster_refuses_or_is_away_and_registered_later(
    tmp_path: Path,
) -> None:
    template = template_repository(tmp_path / "template")
    service = tmp_path / "flight-delay"
    (port,) = free_ports(1)
    tokens = {"reader": ["list-jobs", "read-job", "parse-job"], "all": ["management"]}
    with (
        consul_server(tmp_path / "consul") as consul,
        NomadDouble(tmp_path / "nomad", port=port, acl=tokens) as double,
    ):
        place = {"NOMAD_ADDR": double.address, "CONSUL_HTTP_ADDR": consul.address}
        reader = {**clean_environ(), **place, "NOMAD_TOKEN": "reader"}
        rendered = cookiecutter(template, tmp_path, {"register_on_create": "yes"}, reader)
        said = rendered.stdout + rendered.stderr
        assert rendered.returncode == 0, said
        assert "Permission denied: give NOMAD_TOKEN a token whose policy allows this" in said
        assert f"Repeat it with: make -C {service} register" in said
        assert git(service, "status", "--porcelain") == ""

        gone = run(["make", "register"], service, {**reader, "NOMAD_ADDR": "http://127.0.0.1:1"})
        assert gone.returncode != 0
        assert "does not answer" in gone.stdout + gone.stderr

        allowed = {**reader, "NOMAD_TOKEN": "all", "NOMAD_VAR_gateway_count": "0"}
        result = run(["make", "register"], service, allowed)
        assert result.returncode == 0, result.stdout + result.stderr
        jobs = {job.name for job in Nomad(double.address, token="all").jobs("flight-delay-").jobs}
    assert {"flight-delay-gateway", "flight-delay-retrain", "flight-delay-job-train-1024"} <= jobs


@pytest.mark.parametrize("answer", ["auto", "no"])
def test_nothing_is_registered_unless_somebody_says_so(tmp_path: Path, answer: str) -> None:
    template = template_repository(tmp_path / "template")
    environ = clean_environ()
    if answer == "no":
        environ |= {"NOMAD_ADDR": "http://127.0.0.1:1", "CONSUL_HTTP_ADDR": "127.0.0.1:1"}
    rendered = cookiecutter(template, tmp_path, {"register_on_create": answer}, environ)
    assert rendered.returncode == 0
    assert not (tmp_path / "flight-delay" / ".venv").exists()
    assert "regist" not in rendered.stdout + rendered.stderr
