"""A service with CatBoost and all other answers turned is as good as the one with the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from template_tests.support.rendered_service import is_green
from template_tests.support.rendering import Answers

ANSWERS: Answers = {
    "service_slug": "zz-catboost",
    "framework": "catboost",
    "description": "Größe: 'x' & <y> #1 🚀",
    "owner_email": "o'brien@example.co.uk",
    "retrain_every": "three-hours",
    "artifact_store": "s3",
    "model_reload": "rolling",
    "register_on_create": "no",
}


@pytest.mark.timeout(1200)  # all of a service's life in one test, on a busy machine
def test_a_service_with_catboost_is_green(template: Path, tmp_path: Path) -> None:
    is_green(template, tmp_path, ANSWERS)
