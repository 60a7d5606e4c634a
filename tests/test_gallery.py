"""The gallery of trained prompts: cards, thumbnails, order, and whose runs are whose."""

import re
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from serving import tiny_service

from dro.errors import DataError
from dro.evaluate import Rate
from dro.recipes import Config
from dro.run_folder import Step
from explorer import run_cards, thumbnails
from explorer.limits import CLASSROOM
from explorer.run import Run
from explorer.session import Asked, Place, Session
from explorer.tabs import gallery, optimise

EVIL = "<img src=x onerror=alert(1)>"


def run(name, created=0.0, harmful=None, harmless=None, steps=3):
    made = Run(name, "quick", Config(), Path("/nowhere") / name, 0.0, "done", created=created, usable=True)
    made.steps = [Step(k + 1, 1.0 / (k + 1), 0.5, 0.1, 0.1, 1.0, 1.0) for k in range(steps)]
    for prompt, some in (("short", (0.5, 0.2)), (name, (harmful, harmless))):
        if harmful is not None:
            made.rates += [Rate(prompt, "v", label, 50, 50 * r, 50 - 50 * r, 0, r, r / 2, 1.0, "phrases")
                           for label, r in zip(("harmful", "harmless"), some, strict=True)]  # fmt: skip
    return made


def test_runs_are_listed_as_asked_and_unmeasured_ones_come_last():
    runs = [run("b", 1, 0.9, 0.5), run("C", 3), run("a", 2, 0.7, 0.0), run("d", 4, 0.8, 0.05)]
    order = lambda sort: [each.name for each in gallery.in_order(runs, sort)]  # noqa: E731
    assert order("newest") == order("nonsense") == ["d", "C", "a", "b"]
    assert order("oldest") == ["b", "a", "C", "d"] and order("name") == ["a", "b", "C", "d"]
    assert order("harmful") == ["b", "d", "a", "C"] and order("harmless") == ["a", "d", "b", "C"]
    assert order("difference") == ["d", "a", "b", "C"]


def test_a_curve_is_drawn_from_high_to_low_and_as_far_as_the_run_got():
    tree = ElementTree.fromstring(thumbnails.loss([3.0, 2.0, 1.0], 5, EVIL))
    points = [tuple(map(float, p.split(","))) for p in tree[0].get("points").split()]
    assert tree.get("aria-label") == EVIL and [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[0][1] == 4 and points[-1][1] == 68, "y grows downwards"
    assert points[-1][0] == pytest.approx(4 + 124 / 2), "three of five steps"
    assert len(thumbnails.loss(np.linspace(2, 1, 5000), 5000, "").split("points='")[1]) < 700
    assert thumbnails.loss([1.0], 5, "") == thumbnails.loss([], 5, "") == ""
    assert thumbnails.loss([1.0, float("nan")], 5, "") == ""


def test_movements_lie_on_their_axes_and_no_point_leaves_the_picture():
    start, now = np.array([[0.0, 0], [10, 10]]), np.array([[10.0, 0], [99, 10]])
    ranges = ((0.0, 10.0), (0.0, 10.0))
    svg = thumbnails.movement(start, now, np.array([True, False]), ranges, "m")
    harmful, harmless = re.findall(r"<g class='(\w+)'><path d='(.*?)'/><circle cx='(.*?)' cy='(.*?)'", svg)
    assert harmful == ("harmful", "M4.0 68.0L128.0 68.0", "128.0", "68.0")
    assert harmless[2:] == ("128.0", "4.0") and ElementTree.fromstring(svg) is not None


def card(**changes):
    rates = {"harmful": (0.5, 0.4, 0.6), "harmless": (0.1, 0.0, 0.2)}
    told = {"name": "a", "preset": "quick", "created": 0.0, "phase": "done", "steps": 3, "before": rates,
            "after": {**rates, "harmful": (0.8, 0.7, 0.9)}, "pictures": ["<svg/>"], "mine": True,
            "chosen": False}  # fmt: skip
    return run_cards.Card(**{**told, **changes})


def test_only_who_owns_a_run_is_offered_to_rename_and_delete_it():
    theirs, mine = run_cards.gallery([card(mine=False)], 1), run_cards.gallery([card()], 1)
    assert "data-do='open'" in theirs and "data-do='compare'" in theirs
    for what in ("rename", "delete"):
        assert f"data-do='{what}'" in mine and f"data-do='{what}'" not in theirs
    assert "50% → 80%" in mine and "10% → 10%" in mine
    assert "not measured" in run_cards.gallery([card(before={}, after={})], 5)
    assert "The first 2" in run_cards.gallery([card()] * 2, 3)
    assert "The first" not in mine


def test_names_settings_and_tokens_are_text():
    told = {"init": f"text:{EVIL}", "steps": 30, "lr": 0.0025}
    vector = run_cards.VectorRow(EVIL, 1.0, 1.0, 0.1, [(EVIL, 0.5)])
    for html in (
        run_cards.gallery([card(name=EVIL, preset=EVIL)], 5), run_cards.trash({EVIL: (EVIL, 0.0)}),
        run_cards.undo(EVIL, EVIL), run_cards.settings([EVIL], [told], {"lr": EVIL}, {**told, "lr": 1.0}),
        run_cards.vectors([vector]), run_cards.provenance({"init": EVIL, "space": EVIL}, "d", 0, 1),
    ):  # fmt: skip
        assert "<img" not in html and "onerror" in html


def test_settings_tell_what_is_unusual_and_what_differs():
    usual = {"init": "short", "steps": 30, "lr": 0.0025}
    one = run_cards.settings(["a"], [{**usual, "steps": 40}], {"steps": "Steps"}, usual)
    assert "Steps" in one and one.count("this preset has") == 1 and "this preset has 30" in one
    two = run_cards.settings(["a", "b"], [usual, {**usual, "lr": 1.0}], {}, {})
    assert "<th scope='row'>lr</th><td>0.0025</td><td>1</td>" in two and "init" not in two
    assert "same settings" in run_cards.settings(["a", "b"], [usual, usual], {}, {})


def test_every_setting_is_told_in_words():
    assert set(Config.model_fields) == set(gallery._LABELS)
    labels = [label.strip() for label in gallery._LABELS.values()]
    assert all(labels) and len(set(labels)) == len(labels)


def test_vectors_say_how_many_stayed_and_how_far_they_went():
    rows = [run_cards.VectorRow("a", 2.0, 2.0, drift, [(near, 0.9)])
            for drift, near in ((0.0, "a"), (0.2, "a"), (1.0, " b"))]  # fmt: skip
    told = run_cards.vectors(rows)
    assert "2 of 3 vectors" in told and "median drift is 10%" in told and "<code>␣b</code> 0.90" in told


def test_a_renamed_run_keeps_its_place_in_what_a_visitor_has_done():
    session = Session(ticked=["none", "old"], opened=["old"])
    session.ask("q", "s")
    session.places["old"] = session.answers["old"] = 1
    session.batch = [Asked("b", "s", {"old": 2})]
    session.rename("old", "new")
    assert session.ticked == ["none", "new"] and session.opened == ["new"]
    assert session.places == {"new": 1} == session.history[0].answers and session.batch[0].places == {
        "new": 2
    }


@pytest.fixture
def service(tiny_folder, anchors):
    made = tiny_service(tiny_folder, anchors, replace(CLASSROOM, presets=(), runs_each=4))
    yield made
    made._runs_needed().close()


def test_a_visitors_runs_are_his_own(service, raised):
    config = service.configuration("quick", steps=2, batch=4)
    trained, key = service.start_run(config, "quick")
    deadline = time.monotonic() + 90
    while not trained.over:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    name, session, mine, theirs = trained.name, Session(), {trained.name: key}, {trained.name: "guessed"}
    for odd in ({}, theirs):
        assert "somebody else" in raised(
            lambda odd=odd: gallery._press(service, session, odd, "delete", name), DataError
        )
        gallery._press(service, session, odd, "rename", name)
        assert not session.renaming and "data-do='delete'" not in gallery.gallery_html(service, session, odd)
        assert "somebody else" in raised(lambda: service.rename_run(name, "x", "guessed"), DataError)
    assert "data-do='delete'" in gallery.gallery_html(service, session, mine)
    gallery._press(service, session, mine, "rename", name)
    assert session.renaming == name
    gallery._press(service, session, mine, "open", name)
    shown = gallery.opened(service, session)
    assert len(shown) == 12 and name in shown[1] and "Wilson" in shown[8] and "Provenance" in shown[11]
    assert "vectors are still nearest" in gallery.vectors_html(service, name)
    gallery._press(service, session, mine, "delete", name)
    gallery._forget(service, session)
    assert session.opened == [] and session.renaming == "" and service.prompt_names()[-1] != name
    undo = gallery.undo_html(session)
    assert name in undo and "data-do='restore'" in undo
    thrown = session.deleted[1]
    assert "Deleted runs" in gallery.gallery_html(service, session, mine)
    assert "Deleted runs" not in gallery.gallery_html(service, session, theirs)
    for odd in ({}, theirs):
        assert "somebody else" in raised(
            lambda odd=odd: gallery._press(service, session, odd, "restore", thrown), DataError
        )
    gallery._press(service, session, mine, "restore", thrown)
    assert service.prompt_names()[-1] == name and gallery.undo_html(session) == ""
    for what, odd in (("open", "no-such"), ("compare", "../x"), ("rename", ""), ("nonsense", name)):
        gallery._press(service, session, mine, what, odd)
    assert session.opened == []


def test_two_are_compared_at_most_and_the_last_two_chosen_stay():
    class Known:
        def run_names(self):
            return ["a", "b", "c"]

    session = Session()
    for name, opened in (("a", ["a"]), ("b", ["a", "b"]), ("c", ["b", "c"]), ("c", ["b"]), ("b", [])):
        gallery._press(Known(), session, {}, "compare", name)
        assert session.opened == opened, name


def test_keys_that_no_browser_of_ours_keeps_are_none():
    assert optimise.own_keys([1]) == optimise.own_keys(None) == {}


def test_nothing_that_was_told_under_a_deleted_run_is_kept():
    place = Place((0.0,), None, 0.0, None, False)
    session = Session(ticked=["none"], opened=["old"])
    session.ask("q", "s")
    session.places |= {"old": place, "none": place}
    session.answers["old"] = ("No.", "refused")
    session.ask("other", "s")
    assert set(session.told) == {"old", "none"}
    session.forget("old")
    assert session.told == ["none"] and session.opened == [] and session.history[0].answers == {}
