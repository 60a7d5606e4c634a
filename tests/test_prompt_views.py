"""Where prompts move the anchors, and the angles between: without a model."""

import json
import re

import numpy as np
import pytest

from explorer import prompt_figures, prompt_views
from explorer.session import Session
from explorer.tabs import prompts
from explorer.views import Cloud

EVIL = "<img src=x onerror=alert(1)> %{x}"
draw = np.random.default_rng(3)
harmful = np.arange(8) % 2 == 0
start = draw.normal(size=(8, 5))


def cloud(name, moved, of=None):
    places = start + (np.zeros(5) if of is None else of[:, None] * moved) + (moved if of is None else 0)
    return Cloud(name, places, harmful, np.full(8, np.nan), [f"q{i}" for i in range(8)])


def test_cosines_and_lengths_are_those_of_the_mean_shifts():
    a, b = np.array([2.0, 0, 0, 0, 0]), np.array([3.0, 3, 0, 0, 0])
    view = prompt_views.shifts([cloud("none", 0 * a), cloud("a", a), cloud("b", b), cloud("c", -a)], "none")
    assert view.prompts == ("a", "b", "c") and view.m == 5
    assert np.allclose(view.cosines[0], [1, np.sqrt(0.5), -1]) and np.allclose(view.cosines, view.cosines.T)
    spread = np.sqrt(np.square(start - start.mean(axis=0)).sum(axis=1).mean())
    assert np.allclose(view.lengths * spread, [2, np.sqrt(18), 2])


def test_what_moves_the_classes_apart_is_seen_in_either_class_and_not_in_all():
    apart = cloud("dro", np.ones(5), np.where(harmful, 1.0, -1.0))
    along = cloud("along", np.ones(5))
    clouds = [cloud("none", np.zeros(5)), apart, along]
    whole = prompt_views.shifts(clouds, "none")
    assert whole.lengths[0] == pytest.approx(0, abs=1e-9) and np.isnan(whole.cosines[0]).all()
    for anchors, cosine in (("harmful", 1), ("harmless", -1)):
        assert prompt_views.shifts(clouds, "none", anchors).cosines[0, 1] == pytest.approx(cosine)


def test_without_the_base_or_another_there_is_nothing_to_compare():
    assert prompt_views.shifts([cloud("a", np.ones(5))], "none") is None
    assert prompt_views.shifts([cloud("none", np.ones(5))], "none") is None
    assert prompt_views.shifts([], "none") is None


def test_the_numbers_stand_in_the_cells_and_names_are_text():
    clouds = [cloud("none", np.zeros(5)), cloud(EVIL, np.ones(5)), cloud("b", -np.ones(5)),
              cloud("still", np.zeros(5))]  # fmt: skip
    figure = prompt_figures.similarity(prompt_views.shifts(clouds, "none"))
    [cells] = figure.data
    assert [list(row) for row in cells.text] == [
        ["+1.00", "-1.00", "–"], ["-1.00", "+1.00", "–"], ["–"] * 3
    ]  # fmt: skip
    told = figure.to_json()
    assert "<img" not in told and "NaN" not in told and json.loads(told)["data"][0]["z"][2][0] is None
    assert list(figure.layout.xaxis.tickvals) == list(cells.x) == list(cells.y), "ticks name the cells"
    assert set(re.findall(r"%\{(.*?)\}", cells.hovertemplate)) == {"x", "y", "text"}
    assert not any("%{" in name for name in cells.x)


class Known:
    """A service that knows three human prompts and many runs."""

    def __init__(self, runs):
        self.runs, self.space = [f"dro-short-{n}" for n in range(runs)], object()

    def prompt_names(self):
        return ["none", "short", "default", *self.runs]

    def trained(self):
        return set(self.runs)

    def clouds(self, names):
        return [cloud(name, np.arange(5.0) * len(name)) for name in names if not name.startswith("text:")]


def test_all_prompts_or_the_ticked_ones_are_compared_and_what_is_left_out_is_named():
    few, many = Known(2), Known(40)
    session = Session(ticked=["short", f"text:{EVIL}"])
    shown = lambda service, which: json.loads(prompts.draw(service, session, which, "all")[0])["data"][0]["x"]  # noqa: E731
    assert shown(few, "ticked") == ["short"]
    assert shown(few, "all") == ["short", "default", "dro-short-0", "dro-short-1"]
    kept = shown(many, "all")
    assert kept[:2] == ["short", "default"] and kept[2:] == many.runs[27:]
    note = prompts.draw(few, session, "ticked", "all")[1]
    assert "left out" in note and "<img" not in note
    assert "newest of 43" in prompts.draw(many, session, "all", "harmful")[1]
    assert prompts.draw(few, Session(ticked=["none"]), "ticked", "all")[0] is None
