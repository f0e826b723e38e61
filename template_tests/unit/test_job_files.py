"""The service's job files: Nomad has no includes, so what they share is compared here."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from mlservice.cluster import JobSpec, decode_spec
from mlservice.deploy.clusters import Clusters
from mlservice.deploy.plan import crons, plan_jobs
from mlservice.deploy.variables import as_hcl
from mlservice.errors import SettingsError
from mlservice.jobspec import parse_job
from template_tests.support.cluster import render_nomad
from template_tests.support.toy_service import SERVICE

RENDERED_VALUE = re.compile(r"<<(.*?)>>")
TEXT_SUFFIXES = {".hcl", ".toml", ".md", ".ini", ".yml", ".yaml"}


class Reader:
    """Reads jobs as a Nomad of 2.0.5 does."""

    namespace = "default"

    def parse(self, hcl: str, variables: str = "") -> JobSpec:
        return decode_spec(parse_job(hcl, variables, "2.0.5"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered folder of the job files."""
    into = tmp_path_factory.mktemp("jobs")
    render_nomad(into, service_slug="toy", model_reload="watch")
    return into


def test_a_variable_of_several_jobs_is_the_same_in_each(folder: Path) -> None:
    blocks: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in folder.glob("*.nomad.hcl"):
        for block in re.finditer(
            r'^variable "(\w+)" \{.*?^\}', file.read_text("utf-8"), re.DOTALL | re.MULTILINE
        ):
            blocks[block[1]][block[0]].append(file.name)
    assert {"datacenters", "namespace", "driver", "image", "vault_path"} <= blocks.keys()
    assert {name: found for name, found in blocks.items() if len(found) > 1} == {}


def test_pipeline_and_retrain_are_one_file_and_differ_in_how_they_start(folder: Path) -> None:
    reader = Reader()
    values = {"crons": as_hcl(crons("three-hours"))}
    jobs = {
        job.name: job.spec.document
        for job in plan_jobs(folder, Clusters(reader, reader), [], values)
    }
    assert list(jobs) == ["toy-pipeline", "toy-retrain", "toy-worker", "toy-gateway"]
    pipeline, retrain = jobs["toy-pipeline"], jobs["toy-retrain"]
    assert "Periodic" not in pipeline
    assert pipeline["ParameterizedJob"]["MetaOptional"] == ["period"]
    assert "ParameterizedJob" not in retrain
    assert retrain["Periodic"]["Specs"] == ["5 */3 * * *"]
    commands = [job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] for job in (pipeline, retrain)]
    run = ["pipeline", "run", "--publish"]
    assert commands == [[*run, "--period", "${NOMAD_META_period}"], run]


@pytest.mark.parametrize("values", [{}, {"crons": "[]"}, {"crons": "[\n]"}])
def test_retrain_without_crons_is_refused(folder: Path, values: dict[str, str]) -> None:
    reader = Reader()
    with pytest.raises(SettingsError, match="retrain needs at least one: give it"):
        plan_jobs(folder, Clusters(reader, reader), [], values)


def test_a_rendered_value_only_inserts_an_answer() -> None:
    """A choice is computed in copier.yml, where it has a name; the files stay plain."""
    found = {
        f"{file.relative_to(SERVICE)}: {value}"
        for file in SERVICE.rglob("*")
        if file.is_file() and file.suffix in TEXT_SUFFIXES
        for value in RENDERED_VALUE.findall(file.read_text("utf-8"))
        if not re.fullmatch(r"""\s*(cookiecutter\.\w+|"[^"]*")\s*""", value)
    }
    assert found == {".copier-answers.yml:  _copier_answers | to_nice_yaml -"}  # copier's own form
