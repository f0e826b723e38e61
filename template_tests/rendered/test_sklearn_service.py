"""A service with scikit-learn is as good as the one with the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from template_tests.support.rendered_service import is_green
from template_tests.support.rendering import Answers

ANSWERS: Answers = {
    "service_slug": "sk",
    "framework": "sklearn",
    "retrain_every": "week",
    "model_reload": "signal",
}


@pytest.mark.timeout(1200)  # all of a service's life in one test, on a busy machine
def test_a_service_with_sklearn_is_green(template: Path, tmp_path: Path) -> None:
    is_green(template, tmp_path, ANSWERS)
