"""The report on a space: each check sees what it claims to see."""

import json

import numpy as np
import pytest

from dro import health, probes, projection
from dro.health import Evidence

CONDITIONS = ("none", "default", "mistral", "short")
PAIRS = 30
D = 24


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    monkeypatch.setattr(probes, "STRENGTHS", (0.1, 1.0))
    monkeypatch.setattr(health, "WIDTHS", (2, 4))


def evidence(refusing="query", harm=4.0, together=True, m=4):
    """States with planted structure. refusing: which queries refuse, by "query", "prompt" or "none"."""
    rng = np.random.default_rng(0)
    count = len(CONDITIONS)
    harmful = np.tile(np.arange(2 * PAIRS) % 2 == 0, count)
    pair = np.tile(np.arange(2 * PAIRS) // 2, count)
    place = np.repeat(np.arange(count), 2 * PAIRS)
    states = rng.normal(size=(len(harmful), D))
    states[:, 0] += harm * harmful
    touchy = rng.normal(size=2 * PAIRS)
    states[:, 1] += 5 * np.tile(touchy, count)
    for number in range(1, count):
        states[place == number, 2 if together else 2 + number] += 6
    logits = {
        "query": 4 * np.tile(touchy, count) - 1,
        "prompt": np.where(place == 1, 3.0, -4.0),
        "none": np.full(len(harmful), -30.0),
    }[refusing]
    rates = np.where(harmful, 1 / (1 + np.exp(-logits)), 0.01 if refusing != "none" else 0.0)
    fitted = projection.fit(states, harmful, m)
    coordinates = fitted.coordinates(states)
    refusal = None if refusing == "none" else probes.fit(coordinates, rates, pair)
    return Evidence(
        CONDITIONS,
        harmful,
        pair,
        states,
        coordinates,
        rates,
        fitted,
        probes.fit(coordinates, harmful.astype(float), pair),
        refusal,
        0,
    )


def checks(found, why=""):
    return {c["name"]: c for c in health.report(found, why)}


def test_every_check_has_a_value_a_verdict_and_a_meaning_that_json_can_hold():
    found = health.report(evidence(), "")
    assert all(set(c) == {"name", "value", "verdict", "meaning", "details"} for c in found)
    assert {c["verdict"] for c in found} <= {"pass", "weak", "fail"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_planted_harmfulness_is_found_and_a_missing_one_fails():
    assert checks(evidence())["harmfulness without a prompt"]["verdict"] == "pass"
    assert checks(evidence(harm=0.0))["harmfulness without a prompt"]["verdict"] == "fail"


def test_a_probe_of_the_queries_has_a_high_headline():
    found = checks(evidence("query"))
    assert found["refusal AUC among harmful queries"]["verdict"] == "pass"
    assert found["refusal log-loss"]["verdict"] == "pass"


def test_a_probe_that_only_detects_a_prompt_looks_well_when_pooled_and_fails_the_headline():
    found = checks(evidence("prompt", together=False))
    assert found["refusal AUC, pooled"]["value"] > 0.75
    headline = found["refusal AUC among harmful queries"]
    assert headline["verdict"] == "fail" and (headline["value"] is None or headline["value"] < 0.65)


def test_without_refusals_the_report_says_why():
    found = checks(evidence("none"), "it never refused")
    assert (
        found["refusal probe"]["verdict"] == "fail" and "never refused" in found["refusal probe"]["meaning"]
    )
    assert found["refusals found"]["value"] == 0
    assert "refusal log-loss" not in found


def test_parallel_shifts_are_told_from_unlike_ones():
    assert checks(evidence(together=True))["parallel shifts"]["value"] > 0.8
    assert abs(checks(evidence(together=False))["parallel shifts"]["value"]) < 0.3


def test_refusal_rates_are_listed_by_prompt_and_class():
    e = evidence("prompt")
    rates = checks(e)["refusals found"]["details"]["rates"]
    assert list(rates) == list(CONDITIONS)
    assert rates["default"]["harmful"] > 0.9 and rates["none"]["harmful"] < 0.05
    assert rates["default"]["harmless"] == pytest.approx(0.01)


def test_variance_is_that_of_the_projection():
    e = evidence()
    check = checks(e)["variance explained"]
    assert check["value"] == pytest.approx(e.projection.explained.sum(), abs=1e-4)
    assert len(check["details"]["per_component"]) == e.projection.m


def test_rows_of_a_condition_are_contiguous():
    e = evidence()
    rows = e.rows("default")
    assert rows.sum() == 2 * PAIRS and np.flatnonzero(rows)[0] == 2 * PAIRS


def test_grades_are_by_bounds_upwards_or_downwards():
    assert [health._grade(v, 0.8, 0.6) for v in (0.9, 0.7, 0.1, None)] == ["pass", "weak", "fail", "fail"]
    assert [health._grade(v, 0.1, 0.3, higher=False) for v in (0.05, 0.2, 0.5)] == ["pass", "weak", "fail"]


def test_the_directions_are_compared_and_put_into_words():
    from dataclasses import replace

    apart = checks(evidence())["refusal and harmfulness directions"]
    assert apart["verdict"] == "pass" and "not the same" in apart["meaning"]
    found = evidence()
    same = replace(found, refusal=found.harmfulness, words=("I", " As"), first_token=0.8)
    check = checks(same)["refusal and harmfulness directions"]
    assert check["value"] == pytest.approx(1) and check["verdict"] == "fail"
    assert "“I”, “As”" in check["meaning"] and "r = 0.80" in check["meaning"]
    assert check["details"]["tokens"] == ["I", " As"]
