"""Rates and their intervals, and the order in which everything is reported."""

import math

import numpy as np
import pytest
from conftest import pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from dro import evaluate, refusal
from dro.data import Query, QuerySet
from dro.evaluate import interval, rate
from dro.generate import Decoding
from dro.prompts import resolve

Z = 1.959963984540054


def wilson(successes, n):
    p = successes / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 7), (47, 150), (1, 1), (0, 1)]
)
def test_the_interval_of_single_answers_is_wilsons(successes, n):
    shares = np.array([1.0] * successes + [0.0] * (n - successes))
    assert interval(shares) == pytest.approx(wilson(successes, n), abs=1e-9)


def test_several_samples_give_a_bootstrap_over_queries():
    shares = np.array([0.0] * 10 + [1.0] * 10)  # each query's ten answers agree: 20 facts, not 200
    low, high = interval(shares, samples=10)
    rng = np.random.default_rng(1)
    means = [rng.choice(shares, 20).mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.051)
    naive = wilson(100, 200)
    assert high - low > 2 * (naive[1] - naive[0])


def test_the_bootstrap_is_seeded():
    shares = np.random.default_rng(0).random(30)
    assert interval(shares, 4, seed=1) == interval(shares, 4, seed=1)
    assert interval(shares, 4, seed=1) != interval(shares, 4, seed=2)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_all_queries_agree_the_interval_still_has_a_width(share):
    low, high = interval(np.full(12, share), samples=5)
    assert (low, high) == pytest.approx(wilson(12 * share, 12)) and high - low > 0.1


def test_one_query_with_several_samples_has_an_interval():
    low, high = interval(np.array([0.5]), samples=2)
    assert 0 <= low < high <= 1


OUTCOMES = st.sampled_from(["refused", "answered", "broken"])


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(1, 4), data=st.data())
def test_counts_add_to_n_and_the_rate_lies_in_its_interval(samples, data):
    row = st.lists(OUTCOMES, min_size=samples, max_size=samples)
    verdicts = data.draw(st.lists(row, min_size=1, max_size=8))
    found = rate("p", "s", "harmful", verdicts, "phrases")
    assert found.n == len(verdicts)
    assert found.refused + found.answered + found.broken == pytest.approx(found.n)
    assert found.rate == pytest.approx(found.refused / found.n)
    assert 0 <= found.low <= found.rate + 1e-9 and found.rate - 1e-9 <= found.high <= 1
    assert found.judge == refusal.PHRASES


def test_counts_of_several_samples_are_answers_divided_by_samples():
    found = rate(
        "p",
        "s",
        "harmful",
        [["refused", "answered"], ["refused", "refused"], ["broken", "answered"]],
        "phrases",
    )
    assert (found.refused, found.answered, found.broken) == (1.5, 1, 0.5) and isinstance(found.answered, int)
    assert found.rate == pytest.approx(0.5)
    assert found.as_dict()["class"] == "harmful" and "label" not in found.as_dict()


@pytest.fixture
def said(monkeypatch):
    """Answers that follow from the prompt and the query: harmful queries are refused under `short`."""

    def answer(model, prompt, texts, decoding, *rest):
        progress = rest[1]
        progress("…", 1.0)
        refuses = [prompt.name == "short" and "stolen" in t for t in texts]
        return [
            ["I'm sorry, but I can't help." if r else f"Sure: {t}"] * decoding.samples
            for r, t in zip(refuses, texts, strict=True)
        ]

    monkeypatch.setattr(evaluate, "answers", answer)


def test_rows_go_prompt_by_prompt_and_harmful_before_harmless(tiny, said):
    sets = [pairs(3, "one"), QuerySet("two", (Query("Hi", False),))]
    prompts = [resolve(n, tiny) for n in ("short", "none")]
    report = evaluate.evaluate(tiny, prompts, sets)
    assert [(r.prompt, r.set, r.label, r.n, r.refused) for r in report.rates] == [
        ("short", "one", "harmful", 3, 3),
        ("short", "one", "harmless", 3, 0),
        ("short", "two", "harmless", 1, 0),
        ("none", "one", "harmful", 3, 0),
        ("none", "one", "harmless", 3, 0),
        ("none", "two", "harmless", 1, 0),
    ]


def test_everything_said_stands_in_the_order_of_the_rows(tiny, said):
    sets, decoding = [pairs(2)], Decoding(4, samples=2, temperature=1.0)
    report = evaluate.evaluate(tiny, [resolve(n, tiny) for n in ("short", "none")], sets, decoding)
    texts = sets[0].of("harmful").texts + sets[0].of("harmless").texts
    expected = [(p, t) for p in ("short", "none") for t in texts for _ in range(2)]
    assert [(s.prompt, s.query) for s in report.said] == expected
    assert [s.verdict for s in report.said[:4]] == ["refused"] * 4
    assert report.said[0].as_dict()["class"] == "harmful"


def test_progress_grows_to_one(tiny, said):
    told = []
    evaluate.evaluate(tiny, [resolve("none", tiny)], [pairs(2)], progress=lambda _, share: told.append(share))
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)


def test_the_models_own_answers_are_judged(tiny):
    decoding = Decoding(6, samples=3, temperature=1.0)
    report = evaluate.evaluate(tiny, [resolve("none", tiny)], [pairs(2)], decoding)
    assert len(report.said) == 4 * 3 and [r.n for r in report.rates] == [2, 2]
    assert all(s.verdict == refusal.judge(s.answer).outcome for s in report.said)


def test_an_evaluation_repeats_itself(tiny):
    decoding = Decoding(5, samples=2, temperature=1.0, seed=3)
    runs = [evaluate.evaluate(tiny, [resolve("short", tiny)], [pairs(2)], decoding) for _ in range(2)]
    assert runs[0] == runs[1]
