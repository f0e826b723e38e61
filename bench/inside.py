"""Collects the rendered service's requests, right answers and model; runs in its Python path."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path

import lightgbm
import numpy as np

from mlservice.demo.samples import demo_period, load_samples
from mlservice.models.selection import LATEST, find_model
from mlservice.owner import load_request_code
from mlservice.settings import load_settings

_MAX_REQUESTS = 4000


def main(folder: Path) -> None:
    """Write ``requests.json`` and ``model/`` into ``folder``.

    The expected answer is LightGBM's own score for the features of the request.
    """
    settings = load_settings(Path.cwd(), os.environ)
    package = settings.service.package
    with find_model(settings, os.environ, LATEST).files() as model:
        shutil.copytree(model, folder / "model")
    after = datetime.fromisoformat(demo_period(package))
    requests = [sample.request for sample in load_samples(package)(after, _MAX_REQUESTS)]
    code = load_request_code(package)
    rows = np.array([code.features(request) for request in requests], dtype=np.float64)
    booster = lightgbm.Booster(model_file=folder / "model" / "model.txt")
    scores = np.asarray(booster.predict(rows, num_threads=1))
    expected = [code.respond(float(score))["late_probability"] for score in scores]
    found = {"bodies": [json.dumps(request) for request in requests], "expected": expected}
    (folder / "requests.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
