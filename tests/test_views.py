"""Views: where things lie on the page's axes, and what the plane hides."""

import numpy as np
import pytest

from explorer import figures, views

rng = np.random.default_rng(0)


def geometry(m=4, refusal=True):
    anchors = rng.normal(size=(60, m)) * np.linspace(3, 1, m)
    return views.Geometry(
        rng.normal(size=m), 0.3, rng.normal(size=m) if refusal else None, -0.4 if refusal else 0.0,
        np.linspace(0.2, 0.05, m), anchors,
    )  # fmt: skip


def cloud(space, name, rows=slice(0, 20)):
    n = len(space.anchors[rows])
    rates = np.where(np.arange(n) % 3 == 0, 0.75, 0.0)
    return views.Cloud(
        name, space.anchors[rows], (np.arange(60) % 2 == 0)[rows], rates, [f"query {i}" for i in range(n)]
    )


def located(space, text="Where am I?"):
    return views.Located(text, ["none", "dro-short-1"], rng.normal(size=(2, space.m)),
                         np.array([False, True]))  # fmt: skip


def test_points_keep_their_place_and_means_are_those_of_the_class():
    space = geometry()
    one = cloud(space, "none")
    view = views.scatter(space, [one], ["none"])
    assert np.array_equal(view.clouds[0].xy, one.coordinates[:, :2])
    assert np.allclose(view.means[True][0], one.coordinates[one.harmful, :2].mean(axis=0))
    assert np.allclose(view.means[False][0], one.coordinates[~one.harmful, :2].mean(axis=0))


def test_on_the_probe_axes_a_point_lies_at_its_logits():
    space = geometry()
    view = views.scatter(space, [cloud(space, "none")], ["none"], axes="probes")
    expected = np.stack(
        [space.anchors[:20] @ space.refusal - 0.4, space.anchors[:20] @ space.harmfulness + 0.3], axis=1
    )
    assert np.allclose(view.clouds[0].xy, expected)
    assert np.allclose(view.boundary[:, 0], 0)


def test_the_boundary_is_where_f_r_is_zero_with_the_rest_at_the_anchors_mean():
    space = geometry()
    view = views.scatter(space, [], [])
    ends = np.concatenate([view.boundary, np.tile(space.centre[2:], (2, 1))], axis=1)
    assert np.allclose(space.refusal_logits(ends), 0, atol=1e-9)
    for end in view.boundary:
        assert all(low - 1e-6 <= v <= high + 1e-6 for v, (low, high) in zip(end, view.ranges, strict=True))


def test_the_shadow_counts_the_anchors_on_the_wrong_side():
    space = geometry()
    shadow = views.scatter(space, [], []).shadow
    filled = np.concatenate([space.anchors[:, :2], np.tile(space.centre[2:], (60, 1))], axis=1)
    wrong = (space.refusal_logits(filled) > 0) != (space.refusal_logits(space.anchors) > 0)
    assert shadow.wrong == wrong.sum() > 0
    assert shadow.share == pytest.approx(np.linalg.norm(space.refusal[:2]) / np.linalg.norm(space.refusal))
    flat = geometry(m=2)
    assert views.scatter(flat, [], []).shadow.wrong == 0


def test_the_arrow_points_along_w_r():
    space = geometry()
    start, end = views.scatter(space, [], []).arrow
    cosine = (
        (end - start) @ space.refusal[:2] / np.linalg.norm(end - start) / np.linalg.norm(space.refusal[:2])
    )
    assert cosine == pytest.approx(1)


def test_ranges_hold_every_point_and_rarely_change():
    space = geometry()
    usual = views.scatter(space, [cloud(space, "none")], ["none"]).ranges
    near = views.scatter(space, [cloud(space, "none", slice(20, 40))], ["none"]).ranges
    assert usual == near
    far = views.Located("q", ["none"], np.full((1, 4), 40.0), np.array([True]))
    wide = views.scatter(space, [], [], far)
    assert all(low < 40 < high for low, high in wide.ranges)


@pytest.mark.parametrize("axes", ["components", "probes", "three"])
@pytest.mark.parametrize("refusal", [True, False])
@pytest.mark.parametrize("m", [1, 2, 8])
def test_every_space_can_be_drawn(axes, refusal, m):
    space = geometry(m, refusal)
    view = views.scatter(space, [cloud(space, "none"), cloud(space, "short")], ["none", "short"],
                         located(space), axes)  # fmt: skip
    told = figures.scatter(view).to_json()
    assert "NaN" not in told
    assert (view.arrow is None) == (not refusal)


def test_the_number_of_traces_never_changes():
    """Plotly glides points only between figures of the same traces."""
    space = geometry()
    clouds = [cloud(space, "none"), cloud(space, "short")]
    counts = {
        len(figures.scatter(views.scatter(space, clouds[:k], shown, query)).data)
        for k, shown in ((0, []), (1, ["none"]), (2, ["none", "short"]))
        for query in (None, located(space))
    }
    assert len(counts) == 1


def test_what_a_visitor_typed_is_text_in_the_figure():
    space = geometry()
    query = located(space, 'How do I <b>bold</b> <a href="https://example.org">this</a>?')
    told = figures.scatter(views.scatter(space, [], [], query)).to_json()
    assert "<a " not in told and "&lt;a" in told


def test_a_point_outside_is_marked():
    space = geometry()
    query = figures.scatter(views.scatter(space, [], [], located(space))).data[-1]
    assert list(query.marker.symbol) == ["star", "x"] and "⚠" in query.text[1]


def test_watched_queries_start_and_end_where_they_are():
    space = geometry()
    start, now = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    harmful, trained = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    view = views.watch(space, start, now, harmful, trained, list("abcd"))
    assert np.allclose(view.now[:, 0], space.refusal_logits(now))
    points = [t for t in figures.watch(view).data if t.mode == "markers"]
    assert [t.name for t in points] == [
        "harmful, trained on", "harmful, held out", "harmless, trained on", "harmless, held out",
    ]  # fmt: skip
    assert [len(t.x) for t in points] == [1, 1, 1, 1]


def test_the_watch_axis_says_what_the_run_raises():
    from explorer import figures

    points, yes = np.zeros((2, 2)), np.array([True, False])
    for direct, said in ((True, "(trained on)"), (False, "(trained on the first token)")):
        view = views.Watch(points, points, yes, yes, ["a", "b"], ((0, 1), (0, 1)), direct)
        assert figures.watch(view).layout.xaxis.title.text == f"refusal logit f_r {said}"
