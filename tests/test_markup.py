"""Markup that visitors and models write is text: in tables, hovers, titles, messages, exported files."""

import csv
import io
import json
import re

import numpy as np
import pytest
from conftest import pairs

from dro.data import Query, QuerySet
from dro.errors import DataError
from dro.prompts import SafetyPrompt
from dro.states import PrefixCache
from dro.tables import spreadsheet_safe
from explorer import cards, evaluations, figures, views
from explorer.gpu import Bench
from explorer.messages import shown
from explorer.tabs import evaluate
from explorer.turns import Turns

EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script><a href='https://e.example'>&amp;"
FIELD = "text:%{customdata[0]} %{x} <b>bold</b> <a href='https://e.example'>x</a>"
TAGS = re.compile(r"<(?!br>)/?[a-zA-Z]")


def strings(value):
    """Every string in a figure's json but the templates that we write ourselves."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in ("hovertemplate", "template"):
                yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("axes", ["components", "probes", "three"])
def test_names_and_queries_are_text_in_every_part_of_the_picture(axes):
    draw = np.random.default_rng(0)
    geometry = views.Geometry(np.ones(4), 0.0, np.ones(4), 0.0, np.full(4, 0.2), draw.normal(size=(8, 4)))
    clouds = [
        views.Cloud(name, draw.normal(size=(4, 4)), np.array([True, False] * 2), np.full(4, 0.5), [EVIL] * 4)
        for name in (FIELD, f"text:{EVIL}")
    ]
    located = views.Located(EVIL, [FIELD, f"text:{EVIL}"], draw.normal(size=(2, 4)), np.array([True, False]))
    view = views.scatter(geometry, clouds, [FIELD, f"text:{EVIL}"], located, axes)
    figure = json.loads(figures.scatter(view).to_json())
    assert not [each for each in strings(figure) if TAGS.search(each)]
    for trace in figure["data"]:
        template = trace.get("hovertemplate", "")
        assert set(re.findall(r"%\{(.*?)\}", template)) <= {
            "customdata[0]", "customdata[1]", "customdata[2]", "x:.2f", "y:.2f"
        }  # fmt: skip
        assert not TAGS.search(template.replace("<extra>", "").replace("</extra>", ""))


def test_watched_queries_and_frontiers_are_text():
    points, yes = np.zeros((2, 2)), np.array([True, False])
    watch = views.Watch(points, points, yes, yes, [EVIL, FIELD], ((0, 1), (0, 1)))
    frontier = views.Frontier([EVIL, FIELD], np.full((2, 3), 0.5), np.full((2, 3), 0.5), [True, False])
    for figure in (figures.watch(watch), figures.frontier(frontier)):
        assert not [each for each in strings(json.loads(figure.to_json())) if TAGS.search(each)]


def test_cards_show_it_as_it_was_typed():
    row = {"prompt": f"text:{EVIL}", "class": "harmful", "set": EVIL, "n": 4, "refused": 1, "answered": 3,
           "broken": 0, "rate": 0.25, "low": 0.1, "high": 0.5, "judge": EVIL}  # fmt: skip
    told = [
        cards.table([cards.Row(f"text:{EVIL}", 0.5, 0.1, 0.2, True, True, "refused")], EVIL),
        cards.answers([EVIL], [(EVIL, "answered")], "phrases", True),
        cards.rates([row]),
        cards.legend(EVIL, EVIL),
        cards.comparison(EVIL, FIELD, {}),
        cards.evaluated([(EVIL, "harmful", {EVIL: EVIL}, {EVIL: "answered"}, {})], [EVIL], 1),
        cards.quiet(EVIL),
        cards.progress(EVIL, 0.5),
    ]
    for each in told:
        assert "<img" not in each and "<script" not in each and "<a " not in each and "onerror" in each


@pytest.fixture
def evaluated(tiny, space, monkeypatch):
    monkeypatch.setattr("dro.evaluate.answers", lambda model, prompt, queries, *_: [[EVIL]] * len(queries))
    queries = QuerySet(EVIL[:80], (Query(EVIL, True, 0), Query('=HYPERLINK("x")', False, 0)))
    prompt = SafetyPrompt(f"text:{EVIL}", "Be careful.")
    made = evaluations.start(Bench(tiny, space, PrefixCache(tiny), 1e3), Turns(), [prompt], [queries])
    while not made.over:
        pass
    assert made.phase == "done", made.message
    return made


def test_the_exported_page_runs_nothing_of_it(evaluated):
    page = evaluate._html(evaluated, set())
    assert '"showSendToCloud": false' in page  # plotly's own button would upload the chart
    _, _, after = page.partition("<h1>")
    assert "<img src=x" not in page and "<script>alert" not in page and "e.example'>" not in page
    assert "&lt;img src=x" in after


def test_the_exported_table_runs_no_formula(evaluated):
    rows = list(csv.reader(io.StringIO(evaluated.as_csv())))
    assert rows[2][2] == '\'=HYPERLINK("x")'
    for start in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "－1"):
        assert spreadsheet_safe(start) == f"'{start}"
    assert spreadsheet_safe("1-1 = 0") == "1-1 = 0" and len(pairs(2)) == 4


def test_messages_on_the_page_are_text_and_plain_for_programs():
    for page, expected in ((True, "&lt;b&gt;'x' &amp; y"), (False, "<b>'x' & y")):
        with pytest.raises(Exception) as caught, shown(page):
            raise DataError("<b>'x' & y")
        assert str(caught.value.message) == expected
