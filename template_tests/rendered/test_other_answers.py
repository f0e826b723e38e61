"""Services with other frameworks and answers are as good as the one with the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from template_tests.support.rendered_service import commit, installed, make
from template_tests.support.rendering import Answers, copier

OTHERS: list[Answers] = [
    {
        "service_slug": "zz-catboost",
        "framework": "catboost",
        "description": "Größe: 'x' & <y> #1 🚀",
        "owner_email": "o'brien@example.co.uk",
        "retrain_every": "three-hours",
        "artifact_store": "s3",
        "model_reload": "rolling",
        "register_on_create": "no",
    },
    {
        "service_slug": "sk",
        "framework": "sklearn",
        "retrain_every": "week",
        "model_reload": "signal",
    },
]


@pytest.mark.parametrize(
    "answers",
    [pytest.param(a, marks=pytest.mark.xdist_group(a["framework"])) for a in OTHERS],
    ids=lambda answers: answers["framework"],
)
def test_it_is_green_with_every_other_answer_too(
    template: Path, tmp_path: Path, answers: Answers
) -> None:
    assert copier(template, tmp_path, answers, "service").returncode == 0
    folder = tmp_path / "service"
    make(folder, "init")
    installed(folder)
    make(folder, "lint")
    assert " passed" in make(folder, "test")
    shown = make(folder, "demo")
    assert "challenger" in shown
    assert "its picture: " in shown
    commit(folder, "src/x.py", None, "feat: nothing yet")
