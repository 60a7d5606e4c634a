"""Capability items: scored by rule; code that a model wrote is read, then run with limits."""

import json

import pytest

from dro.errors import DataError
from dro.studies import running, scoring, sets

ITEMS = sets.items("capability.jsonl")


@pytest.mark.parametrize(
    ("answer", "check", "wanted"),
    [
        ("12 + 7 = 19", {"number": 19}, True),
        ("19, or 1,000", {"number": 1000}, True),
        ("The answer is 18.", {"number": 19}, False),
        ("none", {"number": 1}, False),
        ("“Yes.”", {"is": "yes"}, True),
        ("Yes, it is", {"is": "yes"}, False),
        ("green", {"is": "GREEN", "case": True}, False),
        ("It is white", {"contains": ["white"], "most_words": 1}, False),
        ("White.", {"contains": ["white"], "most_words": 1}, True),
        ("catapult", {"excludes": ["cat"]}, False),
        ("a scattered crowd", {"excludes": ["cat"]}, True),
        ("1, 2, 3", {"regex": r"1, ?2, ?3"}, True),
        ("Sure: 1, 2, 3", {"regex": r"1, ?2, ?3"}, False),
        ('```json\n{"age": 30}\n```', {"json": {"age": 30}}, True),
        ('{"age": "30"}', {"json": {"age": 30}}, False),
        ("cat\n\ndog\ncow", {"lines": 3}, True),
        ("HELLO THERE!", {"upper": True}, True),
        ("Hello", {"upper": True}, False),
    ],
)
def test_rules(answer, check, wanted):
    assert scoring.right(answer, check) is wanted


def test_an_unknown_rule_is_named():
    with pytest.raises(DataError, match="nonsense"):
        scoring.right("x", {"nonsense": 1})


def test_code_is_run_and_compared():
    check = {"function": "double", "tests": [[[4], 8], [[0], 0]]}
    assert scoring.right("Here:\n```python\ndef double(n):\n    return 2 * n\n```\nDone.", check)
    assert scoring.right("def double(n):\n    return n + n", check)
    assert not scoring.right("```python\ndef double(n):\n    return n ** 2\n```", check)
    assert not scoring.right("```python\ndef twice(n):\n    return 2 * n\n```", check)
    assert not scoring.right("I would write def double", check)


@pytest.mark.parametrize(
    "code",
    [
        "import os\ndef f(n):\n    return n",
        "from subprocess import run\ndef f(n):\n    return n",
        "def f(n):\n    return open('x', 'w')",
        "def f(n):\n    return ().__class__",
        "def f(n):\n    return __import__('os')",
        "def f(n:",
    ],
)
def test_what_reaches_beyond_values_is_not_run(code):
    assert not running.allowed(code) and not running.passes(code, "f", [[[1], 1]])


def test_a_loop_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(running, "SECONDS", 1)
    assert not running.passes("def f(n):\n    while True:\n        pass", "f", [[[1], 1]])


def test_memory_is_limited():
    assert not running.passes("def f(n):\n    return len('x' * (1 << 31))", "f", [[[1], 1 << 31]])


def test_there_are_150_items_of_four_kinds_each_with_rules_that_can_fail():
    assert len(ITEMS) >= 150 and len({item["query"] for item in ITEMS}) == len(ITEMS)
    assert {item["kind"] for item in ITEMS} == {"arithmetic", "instructions", "reading", "code"}
    assert not any(scoring.right("", item["check"]) for item in ITEMS)
    assert not any(scoring.right("I cannot help with that.", item["check"]) for item in ITEMS)


SOLUTIONS = {
    "is_prime": "def is_prime(n):\n    return n > 1 and all(n % k for k in range(2, n))",
    "mean": "def mean(numbers):\n    return sum(numbers) / len(numbers)",
    "flatten": "def flatten(lists):\n    return [x for each in lists for x in each]",
    "celsius": "def celsius(fahrenheit):\n    return (fahrenheit - 32) * 5 / 9",
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_true_solutions_pass(name):
    (item,) = [i for i in ITEMS if i["check"].get("function") == name]
    assert scoring.right(SOLUTIONS[name], item["check"])


def test_neutral_texts_are_there():
    assert len(sets.items("neutral.jsonl")) == 16
    assert json.dumps(sets.items("neutral.jsonl"))
