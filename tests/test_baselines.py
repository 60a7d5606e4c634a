"""Vanilla prompt tuning: learns from the model's own answers, and goes on after a kill."""

import numpy as np
import pytest
from conftest import pairs

from dro import baselines, likelihood, refusal
from dro.baselines import Lessons, lessons, tune
from dro.errors import DataError
from dro.generate import Decoding, answers
from dro.prompts import resolve
from dro.recipes import config as recipe
from dro.refusal import Verdict

CONFIG = recipe("paper", steps=8, batch=6, lr=0.02)
DECODING = Decoding(max_tokens=4, samples=2, temperature=1.0)


@pytest.fixture
def judged(monkeypatch):
    monkeypatch.setattr(refusal, "judge", lambda a: Verdict("refused" if len(a) % 2 else "answered"))


def test_good_is_what_should_have_been_said(tiny, monkeypatch):
    monkeypatch.setattr(refusal, "judge", lambda a: Verdict("refused"))
    queries = pairs(4)
    with_both = lessons(tiny, queries, [resolve("short", tiny)], DECODING)
    harmful = {q.text for q in queries.queries if q.harmful}
    assert {query for query, _ in with_both.good} <= harmful
    assert not {query for query, _ in with_both.bad} & harmful
    assert all(1 <= len(ids) <= 4 for _, ids in [*with_both.good, *with_both.bad])


def test_one_kind_alone_teaches_nothing(tiny, monkeypatch):
    monkeypatch.setattr(refusal, "judge", lambda a: Verdict("broken"))
    with pytest.raises(DataError, match="both kinds"):
        lessons(tiny, pairs(3), [resolve("none", tiny)], DECODING)


def test_good_answers_become_likelier_and_bad_ones_less(tiny, judged, tmp_path):
    start = resolve("short", tiny)
    likely = answers(tiny, start, ["Why?"], Decoding(max_tokens=4))[0][0]
    taught = Lessons([("How?", likelihood.answer_ids(tiny, ["Hello in the"])[0])] * 3,
                     [("Why?", likelihood.answer_ids(tiny, [likely])[0])] * 3)  # fmt: skip
    clock = iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines.time, "perf_counter", lambda: float(next(clock)))
        prompt, steps = tune(tiny, CONFIG, taught, 12.0, tmp_path / "vpt")
    assert steps == 12

    def told(under):
        return likelihood.surprise(tiny, under, ["How?", "Why?"], ["Hello in the", likely])

    before, after = told(start), told(prompt)
    assert after[0] < before[0] - 0.05 and after[1] > before[1] + 0.05


def test_a_killed_tuning_goes_on(tiny, judged, tmp_path, monkeypatch):
    taught = lessons(tiny, pairs(6), [resolve("short", tiny)], DECODING)
    clock = iter(range(1000))
    monkeypatch.setattr(baselines.time, "perf_counter", lambda: float(next(clock)))
    whole, _ = tune(tiny, CONFIG, taught, 6.0, tmp_path / "whole")
    calls = iter(range(100))

    def kill():
        if next(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tiny, CONFIG, taught, 6.0, tmp_path / "cut", checkpoint=kill)
    resumed, steps = tune(tiny, CONFIG, taught, 6.0, tmp_path / "cut")
    assert steps == 6 and np.array_equal(resumed.vectors, whole.vectors)
