"""Laws for every model that this service trains."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlservice.artifacts import Artifact
from mlservice.owner import load_model_code
from mlservice.quality import Golden
from mlservice.settings import Settings
from mlservice.worker.slot import ModelSlot


def test_a_row_gets_the_same_score_alone_and_in_any_company(
    model: Artifact, slot: ModelSlot
) -> None:
    with model.files() as folder:
        golden = Golden.load(folder)
    alone = {}

    @given(st.lists(st.integers(0, len(golden.rows) - 1), min_size=1, max_size=64))
    def law(chosen: list[int]) -> None:
        together = slot.predict(golden.rows[chosen])
        for place, row in enumerate(chosen):
            if row not in alone:
                alone[row] = float(slot.predict(golden.rows[[row]])[0])
            assert abs(together[place] - alone[row]) < 1e-9

    law()


def test_the_model_beats_the_baseline_on_rows_it_has_not_seen(
    settings: Settings, model: Artifact, slot: ModelSlot
) -> None:
    with model.files() as folder:
        golden = Golden.load(folder)
    checks = load_model_code(settings.service.package).checks
    scores = np.asarray(slot.predict(golden.rows))
    loss, baseline = checks.losses(scores, golden.labels, golden.baseline)
    assert loss < baseline
