"""Figures and tables of studies: values stand where they should, and text stays text."""

import xml.etree.ElementTree as ElementTree

from dro.studies.figure import Dot, Series, dots, scatter
from dro.studies.report import Table

SVG = "{http://www.w3.org/2000/svg}"


def circles(svg):
    found = ElementTree.fromstring(svg).iter(f"{SVG}circle")
    return [(float(c.get("cx")), float(c.get("cy"))) for c in found]


def test_dots_stand_by_value_and_row():
    svg = dots("t", [("a", [Dot(0.2, 0.1, 0.3)]), ("b", [Dot(0.8, 0.7, 0.9)])], ("s",), "x")
    _, first, second = circles(svg)
    assert second[0] - first[0] == 430 * 0.6 and second[1] - first[1] == 30


def test_a_value_beyond_the_axis_stands_at_its_end_and_a_missing_one_nowhere():
    svg = dots("t", [("a", [Dot(2.0, 2.0, 2.0), None])], ("s", "r"), "x")
    assert len(circles(svg)) == 3 and circles(svg)[-1][0] == 210 + 430


def test_a_scatter_keeps_the_order_of_both_axes():
    svg = scatter("t", [("p", [Series("s", [0, 1, 2], [5, 3, 4])])], "x", "y")
    points = circles(svg)[1:]
    assert [p[0] for p in points] == sorted(p[0] for p in points)
    assert points[0][1] < points[2][1] < points[1][1]  # y grows upwards


def test_an_empty_scatter_is_a_figure_still():
    ElementTree.fromstring(scatter("t", [("p", [Series("s", [], [])])], "x", "y"))


def test_text_in_figures_and_tables_is_escaped():
    svg = dots("<b> & c", [], (), "x")
    assert "&lt;b&gt; &amp; c" in svg
    assert "a \\| b" in Table(("x",), [["a | b"]]).markdown()
