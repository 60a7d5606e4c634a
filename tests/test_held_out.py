import json

import numpy as np
import pytest
from conftest import pairs

from dro import held_out, region
from dro.prompts import resolve
from dro.refusal import Verdict
from dro.states import last_token_states


@pytest.fixture(autouse=True)
def judged(monkeypatch):
    monkeypatch.setattr("dro.refusal.judge", lambda a: Verdict("refused" if len(a) % 2 else "answered"))


def test_states_and_verdicts_are_of_the_same_queries(tiny, space, monkeypatch, tmp_path):
    seen = {}
    whole = region.examine

    def examine(space, states, refused, numbers):
        seen.update(states=states, refused=list(refused), pairs=list(numbers))
        return whole(space, states, refused, numbers)

    monkeypatch.setattr(held_out, "examine", examine)
    queries, prompt = pairs(8, "unseen"), resolve("short", tiny)
    found = held_out.report(tiny, space, prompt, queries)
    in_order = [*queries.of("harmful").queries, *queries.of("harmless").queries]
    assert np.allclose(seen["states"], last_token_states(tiny, prompt, [q.text for q in in_order]), atol=1e-5)
    assert seen["pairs"] == [q.pair for q in in_order]
    assert sum(seen["refused"][:8]) == found.rates[0].refused
    assert sum(seen["refused"][8:]) == found.rates[1].refused
    held_out.write(found, tmp_path)
    kept = json.loads((tmp_path / held_out.FILE).read_text())
    assert kept == found.as_dict() and kept["region"]["n"] == 16 and len(kept["results"]) == 2


def test_by_default_the_reporting_half_is_asked(tiny, space, monkeypatch):
    asked = []
    monkeypatch.setattr(held_out, "bundled", lambda *which: asked.append(which) or pairs(4))
    held_out.report(tiny, space, resolve("none", tiny))
    assert asked == [("validation", "report")]
