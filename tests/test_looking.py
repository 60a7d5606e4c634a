"""Colours and shapes, density, differences, the ladder, selections and histories: all without a model."""

import itertools
import json

import numpy as np
import pytest

from explorer import cards, density, figures, live_table, looking_cards, looking_figures, palette, views
from explorer.differences import segments, shared
from explorer.session import MOST_PINNED, MOST_REMEMBERED, Session
from explorer.tabs import drawn

EVIL = "<img src=x onerror=alert(1)>"
draw = np.random.default_rng(0)
# What people without one kind of cone see, in linear rgb: Machado, Oliveira and Fernandes 2009, severity 1.
BLIND = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(colour, sight):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLIND[sight]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    scaled = xyz / np.array([0.9505, 1, 1.089])
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", BLIND)
@pytest.mark.parametrize(
    "pair",
    [(palette.HARMFUL, palette.HARMLESS), (palette.VERDICTS["refused"], palette.VERDICTS["answered"]),
     (palette.REFUSAL_SCALE[0][1], palette.REFUSAL_SCALE[2][1])],
)  # fmt: skip
def test_two_colours_that_mean_opposite_things_stay_apart_for_everybody(pair, sight):
    assert np.linalg.norm(lab(pair[0], sight) - lab(pair[1], sight)) > 40


def test_what_colours_tell_apart_shapes_tell_apart_too():
    rates, logits = np.array([0.0, 1.0, np.nan, 0.0, 1.0, np.nan]), np.array([-1, 1, 1, -1, 1, -1.0])
    harmful, numbers = np.array([1, 1, 1, 0, 0, 0], bool), np.arange(6)
    for colour in ("class", "verdict", "prompt"):
        for three in (False, True):
            made = palette.marks(colour, harmful, rates, logits, numbers, three)
            for a, b in itertools.combinations(range(6), 2):
                if made["color"][a] != made["color"][b] and not (three and colour == "prompt"):
                    assert made["symbol"][a] != made["symbol"][b], (colour, a, b)
    made = palette.marks("refusal", harmful, rates, logits, numbers)
    assert np.allclose(made["color"], 1 / (1 + np.exp(-logits)), atol=1e-3)
    assert [s.startswith("diamond") for s in made["symbol"]] == [bool(each > 0) for each in logits]
    assert [s.endswith("-open") for s in made["symbol"]] == [False] * 3 + [True] * 3


def test_twelve_prompts_are_told_apart():
    made = palette.marks("prompt", True, np.zeros(12), None, np.arange(12))
    assert len(set(zip(made["color"], made["symbol"], strict=True))) == 12


def test_a_key_names_a_point_and_nothing_that_was_typed():
    found = palette.key("anchor", f"text:{EVIL}", 7)
    assert found == palette.key("anchor", f"text:{EVIL}", 7) != palette.key("anchor", "text:", 7)
    assert drawn.keys_of([found]) == [found] and "<" not in found


@pytest.mark.parametrize("told", [None, 7, "a.b.1", {}, [None, 7, ["a.b.1"], "a" * 100, "ab", {"a": 1}]])
def test_keys_that_no_plot_sends_are_passed_over(told):
    assert drawn.keys_of(told) == []


@pytest.mark.parametrize("told", [None, 7, [], {}, {"do": 1, "key": "x"}, {"do": "ask", "key": "x" * 100}])
def test_presses_that_no_table_sends_are_nothing(told):
    assert live_table.pressed(told) == ("", "")


def test_half_of_the_points_lie_inside_the_contour_at_a_half():
    xy = draw.normal(size=(4000, 2)) * [1, 3] + [2, -1]
    x, y, found = density.estimate(xy, [(-4, 8), (-16, 14)])
    assert found.sum() == pytest.approx(1, abs=0.01)
    peak = np.unravel_index(found.argmax(), found.shape)
    assert x[peak[1]] == pytest.approx(2, abs=0.8) and y[peak[0]] == pytest.approx(-1, abs=2)
    shares = density.enclosed(found)
    columns = np.abs(x[None] - xy[:, :1]).argmin(axis=1)
    rows = np.abs(y[None] - xy[:, 1:]).argmin(axis=1)
    assert np.mean(shares[rows, columns] <= 0.5) == pytest.approx(0.5, abs=0.06)
    assert shares.min() > 0 and shares.max() == pytest.approx(1)


def test_one_point_and_points_on_a_line_have_a_density():
    for xy in (np.zeros((1, 2)), np.stack([np.arange(5.0), np.zeros(5)], axis=1)):
        _, _, found = density.estimate(xy, [(-1, 6), (-1, 1)])
        assert np.isfinite(found).all() and found.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("base", "other"),
    [("I cannot help with that.", "I can help with that."), ("", "Sure!"), ("a b c", ""), ("same", "same"),
     ("Sorry,  but\nno", "Sorry, but yes"), ("naïve café", "naive cafe"), ("w " * 3000, "w " * 2999 + "v")],
)  # fmt: skip
def test_differences_give_both_answers_back(base, other):
    parts = segments(base, other)
    assert "".join(piece for kind, piece in parts if kind != "less") == other
    assert "".join(piece for kind, piece in parts if kind != "more") == base
    assert 0 <= shared(parts) <= 1 and (shared(parts) == 1) == (base == other)


def test_only_the_words_that_differ_are_marked():
    parts = segments("I cannot help with that.", "I can help with this.")
    assert [piece for kind, piece in parts if kind == "more"] == ["can", "this"]
    assert [piece for kind, piece in parts if kind == "less"] == ["cannot", "that"]


def test_aligned_answers_begin_with_the_base_and_are_text():
    told = looking_cards.aligned(
        ["short", "none"], [(f"No. {EVIL}", "refused"), ("Yes.", "answered")], "none", False
    )
    assert told.index(">none<") < told.index(">short<", told.index("<tbody>"))
    assert "<ins>No</ins>" in told and "<img" not in told and "onerror" in told
    assert "veil" in looking_cards.aligned(["none"], [("Yes.", "answered")], "none", True)


def test_tables_show_what_was_typed_as_text():
    own = f"text:{EVIL}"
    picked = looking_cards.Picked("k.a.0", "query", EVIL, own, None, 0.5, 1.0, None, EVIL, "answered")
    row = looking_cards.BatchRow("k.a.0", EVIL, {EVIL: 0.5}, {EVIL: 1.0}, EVIL, "answered")
    past = looking_cards.Past("k.a.0", EVIL, {EVIL: 0.5}, {EVIL: "answered"}, True, False)
    for told in (
        looking_cards.selection([picked]), looking_cards.batch([row], [EVIL], EVIL),
        looking_cards.history([past]), looking_cards.pinned([past], [EVIL]),
        looking_cards.openings([EVIL], [[(EVIL, 0.4), (" a\n", 0.2)]]),
        cards.legend(EVIL, EVIL, "prompt", True, [EVIL, EVIL]),
    ):  # fmt: skip
        assert "<img" not in told and "onerror" in told
    assert "<div class='veil'>" in looking_cards.selection([picked]), "an answer to harm waits for a click"
    assert "␣a⏎" in looking_cards.openings(["none"], [[(" a\n", 0.2)]])


def test_a_long_selection_is_cut_and_says_so():
    picked = looking_cards.Picked("k.a.0", "anchor", "q", "none", True, None, 1.0, 0.25)
    told = looking_cards.selection([picked] * 500)
    assert told.count("<tr>") == looking_cards.MOST_ROWS + 1 and "500 points" in told and "first 200" in told
    assert "refused in 25% of their answers on average" in told


def rungs():
    return [looking_figures.Rung("short", 1.5, 2.0, -1.0, "refused"),
            looking_figures.Rung("none", -0.5, 0.0, -2.0, None),
            looking_figures.Rung(f"text:{EVIL}", 0.3, np.nan, np.nan, "answered")]  # fmt: skip


def test_the_ladder_begins_at_the_base_and_its_scale_is_the_sigmoid():
    figure = looking_figures.ladder(rungs(), "none", EVIL)
    query = next(t for t in figure.data if t.name == "your question")
    assert list(query.x) == [-0.5, 1.5, 0.3] and list(figure.layout.yaxis.ticktext)[:2] == ["none", "short"]
    arrows = next(t for t in figure.data if t.name == "shift")
    assert [x for x in arrows.x if x is not None] == [-0.5, 1.5, -0.5, 0.3]
    scale = figure.layout.xaxis2
    assert scale.range == figure.layout.xaxis.range
    half = list(scale.ticktext).index("50%")
    assert scale.tickvals[half] == 0 and list(scale.tickvals) == sorted(scale.tickvals)
    assert list(figure.layout.yaxis.range) == [2.5, -0.5], "all three rungs, the first on top"
    told = figure.to_json()
    assert "<img" not in told and "NaN" not in told
    assert looking_figures.ladder([], "none", "q").to_json()


def geometry(m=5, umap=None, pair=(0, 1)):
    anchors = draw.normal(size=(40, m)) * np.linspace(3, 1, m)
    return views.Geometry(draw.normal(size=m), 0.3, draw.normal(size=m), -0.4, np.linspace(0.2, 0.05, m),
                          anchors, pair, umap)  # fmt: skip


def clouds(space):
    harmful = np.arange(20) % 2 == 0
    return [
        views.Cloud(name, space.anchors[rows], harmful, np.where(harmful, 0.75, 0.0),
                    [f"{name} {i}" for i in range(20)])
        for name, rows in (("none", slice(0, 20)), ("short", slice(20, 40)))
    ]  # fmt: skip


def test_any_two_components_are_shown_with_their_boundary():
    space = geometry(pair=(3, 1))
    view = views.scatter(space, clouds(space), ["none"], axes="pair")
    assert np.array_equal(view.clouds[0].xy, space.anchors[:20][:, [3, 1]])
    assert view.titles[0].startswith("component 4") and view.titles[1].startswith("component 2")
    for end in view.boundary:
        full = space.centre.copy()
        full[[3, 1]] = end
        assert space.refusal_logits(full[None])[0] == pytest.approx(0, abs=1e-9)


def test_a_map_shows_neighbourhoods_and_no_directions():
    space = geometry(umap=lambda rows: rows[:, :2] * 2)
    view = views.scatter(space, clouds(space), ["none"], axes="umap")
    assert view.axes == "umap" and np.allclose(view.clouds[0].xy, space.anchors[:20, :2] * 2)
    assert view.arrow is None and view.boundary is None and not len(view.means[True])
    none = geometry()
    assert views.scatter(none, clouds(none), ["none"], axes="umap").axes == "components"


@pytest.mark.parametrize("colour", drawn.COLOURS)
@pytest.mark.parametrize("axes", ["components", "pair", "probes", "three", "umap"])
def test_traces_stay_the_same_in_number_and_order(colour, axes):
    space = geometry(umap=lambda rows: rows[:, :2])
    located = views.Located("q", ["none", "short"], draw.normal(size=(2, 5)), np.array([False, True]))
    asked = [views.Asked(kind, "none", ["a", "b"], draw.normal(size=(2, 5)), np.array([1, np.nan]))
             for kind in ("batch", "pin")]  # fmt: skip
    names = set()
    for shown, query, others, contours in (
        ([], None, [], False), (["none"], located, [], True), (["none", "short"], located, asked, True),
    ):  # fmt: skip
        view = views.scatter(space, clouds(space), shown, query, axes, others)
        figure = json.loads(figures.scatter(view, colour, contours).to_json())
        assert "NaN" not in json.dumps(figure)
        names.add(tuple(trace["name"] for trace in figure["data"]))
    assert len(names) == 1


def test_a_selection_fades_the_others_in_every_flat_view():
    space = geometry(umap=lambda rows: rows[:, :2])
    chosen = frozenset({palette.key("anchor", "short", 4), palette.key("anchor", "none", 1)})
    for axes in ("components", "pair", "probes", "umap"):
        view = views.scatter(space, clouds(space), ["none", "short"], axes=axes)
        data = [t for t in figures.scatter(view, selected=chosen).data if t.type == "scatter"]
        found = [trace.customdata[n][3] for trace in data for n in trace.selectedpoints or ()]
        assert sorted(found) == sorted(chosen)
        assert "selectedpoints" not in figures.scatter(view).to_json()


def test_what_a_prompt_does_to_a_query_is_an_arrow_from_its_first_place():
    space = geometry()
    located = views.Located("q", ["none", "short", "b"], draw.normal(size=(3, 5)), np.zeros(3, bool))
    view = views.scatter(space, [], [], located)
    assert np.allclose(view.moves[:, 0], located.coordinates[0, :2])
    assert np.allclose(view.moves[:, 1], located.coordinates[1:, :2])


def test_a_session_remembers_what_it_asked_and_goes_back():
    session = Session(ticked=["none"])
    session.ask("one", "s")
    session.answers["none"] = ("Yes.", "answered")
    session.ask("two", "s")
    assert session.answers == {} and [old.query for old in session.history] == ["one", "two"]
    session.recall(session.history[0])
    assert session.query == "one" and session.answers["none"] == ("Yes.", "answered")
    session.ask("", "")
    assert len(session.history) == 2


def test_pinned_questions_outlast_the_history_and_are_few():
    session = Session()
    session.ask("first", "s")
    session.pin(session.history[0])
    for number in range(MOST_REMEMBERED + 20):
        session.ask(f"q{number}", "s")
    assert len(session.history) == MOST_REMEMBERED + 1 and session.pins()[0].query == "first"
    session.ask("first", "s")
    assert session.pins()[0].query == "first", "asked again, it stays pinned"
    for old in list(session.history):
        if not old.pinned:
            session.pin(old)
    assert len(session.pins()) == MOST_PINNED
    session.pin(session.pins()[0])
    assert len(session.pins()) == MOST_PINNED - 1
