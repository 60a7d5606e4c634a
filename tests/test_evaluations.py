"""Evaluations behind the page, on a tiny model."""

import csv
import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import pairs

from dro import evaluate
from dro.errors import DataError
from dro.prompts import resolve
from dro.states import PrefixCache
from explorer import evaluations, figures, views
from explorer.gpu import Bench
from explorer.limits import OWN
from explorer.tabs.evaluate import _shows, chosen_sets, frontier_json
from explorer.turns import Turns, Visitor

SET = pairs(4, "own")


@pytest.fixture
def bench(tiny, space):
    first = tiny.tokenizer("I", add_special_tokens=False).input_ids[0]
    return Bench(tiny, replace(space, openings={first: (5, 5)}), PrefixCache(tiny), 1000.0)


@pytest.fixture
def judged(monkeypatch):
    """Verdicts that differ from prompt to prompt: harmful queries are refused under `short`."""

    def said(model, prompt, queries, *_):
        refused = prompt.name == "short"
        return [["I'm sorry, but I can't help." if refused and "stolen" in q else "=Sure."] for q in queries]

    monkeypatch.setattr("dro.evaluate.answers", said)


def wait(made, seconds=60):
    deadline = time.monotonic() + seconds
    while not made.over:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return made


def run(bench, tiny, names=("none", "short"), sets=(SET,)):
    return wait(evaluations.start(bench, Turns(), [resolve(n, tiny) for n in names], sets))


@pytest.fixture
def begun(monkeypatch):
    """Evaluations that are under way until a test says otherwise, in the order in which they began."""
    made = []

    def start(bench, turns, prompts, sets, most, visitor):
        made.append(evaluations.Evaluation(("none",), (SET,), 1.0, visitor=visitor))
        return made[-1]

    monkeypatch.setattr(evaluations, "start", start)
    return made


def test_few_are_under_way_at_once_and_fewer_of_one_visitor(begun):
    there = evaluations.Evaluations(Turns(), replace(OWN, evaluations=2, evaluations_each=1))
    one, other, third = Visitor("one"), Visitor("other"), Visitor("third")
    there.start(None, [], [], one)
    with pytest.raises(DataError, match="of yours is under way"):
        there.start(None, [], [], one)
    there.start(None, [], [], other)
    with pytest.raises(DataError, match="2 evaluations are under way"):
        there.start(None, [], [], third)
    begun[0].phase = "done"
    assert there.get(there.start(None, [], [], third)) is begun[2] and there.going == begun[1:]
    assert there.get(3) is None and there.get("nobody's") is None


def test_sixteen_are_kept_and_none_is_forgotten_that_is_under_way(begun):
    there = evaluations.Evaluations(Turns(), replace(OWN, evaluations=99, evaluations_each=99))
    names = []
    for number in range(evaluations.KEPT + 2):
        names.append(there.start(None, [], [], Visitor("one")))
        begun[-1].phase = "working" if number == 0 else "done"
    kept = [number for number, name in enumerate(names) if there.get(name)]
    assert kept == [0, *range(2, evaluations.KEPT + 2)], "the first is under way, the second was the oldest"


def test_prompts_are_evaluated_one_after_the_other(bench, tiny, judged):
    made = run(bench, tiny)
    assert made.phase == "done" and made.share == 1.0 and made.finished == ["none", "short"]
    assert [(r.prompt, r.label, r.n, r.refused) for r in made.rates] == [
        ("none", "harmful", 4, 0), ("none", "harmless", 4, 0),
        ("short", "harmful", 4, 4), ("short", "harmless", 4, 0),
    ]  # fmt: skip
    assert made.total("short", "harmful").rate == 1.0


def test_rows_hold_every_prompts_answer_and_both_judges(bench, tiny, judged):
    rows = run(bench, tiny).rows()
    assert len(rows) == 8
    row = next(r for r in rows if r.label == "harmful")
    assert row.verdicts == {"none": "answered", "short": "refused"} == row.others
    assert _shows(row, "prompts") and _shows(row, "missed") and not _shows(row, "judges")
    harmless = next(r for r in rows if r.label == "harmless")
    assert not _shows(harmless, "prompts") and not _shows(harmless, "overdone") and _shows(harmless, "all")


def test_two_prompts_are_compared_by_class(bench, tiny, judged):
    made = run(bench, tiny)
    found = made.compare("none", "short")
    assert (found["harmful"].only_second, found["harmful"].p) == (4, 0.125)
    assert found["harmless"].p == 1.0
    with pytest.raises(DataError, match="'mistral' has not been evaluated"):
        made.compare("none", "mistral")


def test_downloads_hold_everything_and_run_no_formula(bench, tiny, judged):
    made = run(bench, tiny)
    told = json.loads(made.as_json())
    assert len(told["answers"]) == 16 and told["sets"][0]["sha256"] == SET.digest
    rows = list(csv.reader(io.StringIO(made.as_csv())))
    assert len(rows) == 17 and rows[1][3] == "'=Sure."


def test_the_chart_has_a_point_for_each_prompt(bench, tiny, judged):
    made = run(bench, tiny)
    [trace] = json.loads(frontier_json(made, {"short"}))["data"]
    assert trace["text"] == ["none", "short"] and trace["marker"]["symbol"] == ["octagon", "star"]
    one_class = run(bench, tiny, sets=(SET.of("harmful"),))
    assert frontier_json(one_class, set()) is None


def test_prompts_with_the_same_rates_share_a_label():
    harmful, harmless = np.array([[0.4] * 3, [0.6] * 3, [0.4] * 3]), np.zeros((3, 3))
    view = views.Frontier(["default", "template", "<b>"], harmful, harmless, [False] * 3)
    assert list(figures.frontier(view).data[0].text) == ["default<br>&lt;b&gt;", "template", ""]


def test_a_stop_keeps_what_is_done(bench, tiny, monkeypatch):
    whole = evaluate.evaluate

    def stop_in_the_second(model, prompts, *rest):
        if prompts[0].name == "short":
            made.stop.set()
        return whole(model, prompts, *rest)

    monkeypatch.setattr("dro.evaluate.evaluate", stop_in_the_second)
    turns = Turns()
    with turns.worker():  # held until `made` has its name
        made = evaluations.start(bench, turns, [resolve(n, tiny) for n in ("none", "short")], [SET])
    wait(made)
    assert made.phase == "stopped" and made.finished == ["none"] and "Stopped" in made.message


def test_a_failure_is_told_in_words(bench, tiny, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret path /x")

    monkeypatch.setattr("dro.evaluate.evaluate", fail)
    made = run(bench, tiny)
    assert made.phase == "failed" and "/x" not in made.message and made.message


def test_too_much_and_nothing_are_refused(bench, tiny):
    with pytest.raises(DataError, match="No query set is chosen"):
        evaluations.start(bench, Turns(), [resolve("none", tiny)], [])
    with pytest.raises(DataError, match=r"402 queries.*up to 400"):
        evaluations.start(bench, Turns(), [resolve("none", tiny)], [pairs(201)])


def test_bundled_and_uploaded_sets_are_limited_alike(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        "query,class\n" + "".join(f"q{i},{k}\n" for i in range(9) for k in ("harmful", "harmless"))
    )
    sets = chosen_sets(["test", "report"], str(path), 5)
    assert [(s.name, len(s)) for s in sets] == [("test", 10), ("validation-report", 10), ("own", 10)]
