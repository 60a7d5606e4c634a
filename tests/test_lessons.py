"""The tour: every answer against a computation of its own, on tiny material and on what is shipped."""

import itertools
import json
import math

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from dro.errors import StoreError
from dro.evaluate import interval
from explorer.lessons import apart, cost, moves, numbers, pca, refusal, state, text, training
from explorer.lessons.material import ASSET, load, material
from explorer.lessons.step import Choice, Kept, Slide
from explorer.lessons.tour import STEPS

rng = np.random.default_rng(0)


def recording(space, width=32):
    """A made-up recording that belongs to `space`."""
    pairs = [
        {"query": f"How to {word} a {kind} thing", "word": word, "harmful": kind == "stolen",
         "state": rng.normal(size=width).round(2).tolist()}
        for word in ("fold", "open") for kind in ("stolen", "plain")
    ]  # fmt: skip
    rows = [
        {"prompt": prompt, "class": label, "n": 40, "refused": count, "broken": 0, "rate": count / 40,
         **dict(zip(("low", "high"), interval(np.array([1.0] * count + [0.0] * (40 - count))), strict=True))}
        for prompt, counts in (("short", (10, 4)), ("runs/x", (34, 4)))
        for label, count in zip(("harmful", "harmless"), counts, strict=True)
    ]  # fmt: skip
    frames = rng.normal(size=(4, 4, 2)).round(3)
    frames[1, 0] = frames[0, 0]  # a query that has not moved after the first step
    run = {
        "init": "short", "batch": 4, "tokens": 5, "seconds_per_step": 0.1, "loss": [0.7, 0.6, 0.5],
        "queries": ["a", "b", "c", "d"], "harmful": [True, True, False, False],
        "trained": [True, False, True, False], "frames": frames.tolist(), "beyond": 0.25,
    }  # fmt: skip
    from explorer.lessons.record import long_run

    told = long_run({"results": [row | {"set": "made up"} for row in rows]})
    return {"format": 1, "space": space.name, "pairs": pairs, "short": {**run, **told}, "long": told}


@pytest.fixture(params=["tiny", "shipped"])
def seen(request):
    """Material to ask about: the tiny model's space with a made-up recording, or what is shipped."""
    if request.param == "shipped":
        return load()
    space = request.getfixturevalue("space")
    return material(space, recording(space))


def settings(step, seen, most=60):
    """Many ways of setting a step's controls: every choice, and the ends and middle of every slider."""
    values = []
    for control in step.controls(seen):
        if isinstance(control, Choice):
            values.append([value for _, value in control.options])
        elif isinstance(control, Slide):
            values.append([control.low, control.value, control.high])
        else:
            values.append([control.value])
    keys = [control.key for control in step.controls(seen)]
    every = [dict(zip(keys, combination, strict=True)) for combination in itertools.product(*values)]
    return every[:: max(1, len(every) // most)]


def percent(option):
    return int(option.removesuffix("%"))


@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_every_setting_can_be_drawn_and_asked(step, seen):
    for number, chosen in enumerate(settings(step, seen, 5)):
        assert "NaN" not in step.draw(seen, {**chosen, "solved": number % 2 == 1}).to_json()
        question = step.question(seen, chosen)
        assert 0 <= question.right < len(question.options)
        assert len(set(question.options)) == len(question.options) >= 2
        told = [question.ask, question.why, question.hint, step.notice(seen, chosen), *question.options]
        assert all(one.strip() and "{" not in one and "nan" not in one.split() for one in told)
        assert question.options[question.right] not in question.hint
        assert step.target(seen, chosen).tab in text.TRY


@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_the_number_of_traces_stays_so_that_points_glide(step, seen):
    drawn = [step.draw(seen, chosen) for chosen in settings(step, seen, 4)]
    assert len({len(figure.data) for figure in drawn}) == 1
    for figure in drawn:
        if any(trace.type == "heatmap" for trace in figure.data):
            continue  # cells do not glide
        used = {getattr(trace, axis) or axis[0] for trace in figure.data for axis in ("xaxis", "yaxis")}
        for name in used:
            assert figure.layout[f"{name[0]}axis{name[1:]}"].range, f"{name}: plotly keeps the range it found"


@pytest.mark.parametrize("prompt", ["none", "template", "default"])
def test_the_tallest_bar_of_distances_stands_within_its_axis(prompt, seen):
    figure = apart.STEP.draw(seen, {"axes": "1,2", "prompt": prompt})
    for bars in (trace for trace in figure.data if trace.type == "histogram"):
        edges = np.arange(bars.xbins.start, bars.xbins.end + 1e-9, bars.xbins.size)
        assert np.histogram(np.asarray(bars.x, float), edges)[0].max() < figure.layout.yaxis2.range[1]


def test_answers_differ_from_setting_to_setting():
    """Not one of the steps whose controls matter can be passed by always giving the same answer."""
    seen = load()
    for step in (pca.STEP, apart.STEP, moves.STEP, refusal.STEP, training.STEP, cost.STEP):
        answers = set()
        for chosen in settings(step, seen, 200):
            chosen = {**chosen, **step.follow("set", chosen)}
            question = step.question(seen, chosen)
            answers.add(question.options[question.right])
        assert len(answers) >= 2, step.name


# 1 ----------------------------------------------------------------------------------------------------


def test_a_state_has_as_many_numbers_as_the_model_is_wide(seen):
    width = 896 if seen is load() else 32
    for chosen in settings(state.STEP, seen):
        question = state.STEP.question(seen, chosen)
        assert int(question.options[question.right].replace(",", "")) == width
        cells = [len(trace.z) * len(trace.z[0]) for trace in state.STEP.draw(seen, chosen).data]
        assert cells == [width, width]


def test_the_shipped_states_are_whole_and_project_into_the_space(seen):
    from dro.models import default_key
    from dro.space import shipped

    space = shipped(default_key("bf16"))
    for harmful, harmless in load().pairs:
        for whole in (harmful, harmless):
            row = space.anchors.queries.index(whole.query)
            known = space.anchors.coordinates[space.anchors.rows("none")][row]
            # Two decimals a number: the projection of what was rounded away stays small.
            assert np.allclose(space.projection.coordinates(whole.state[None])[0], known, atol=0.3)
            assert space.anchors.harmful[row] == whole.harmful


# 2 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pca.SETS)
def test_the_angle_and_the_shares_are_those_of_another_pca(name):
    points = np.array(pca.SETS[name], dtype=float)
    found, other = numbers.components(points), PCA(2).fit(points)
    assert np.allclose(found.shares, other.explained_variance_ratio_)
    assert np.allclose(found.mean, other.mean_)
    question = pca.STEP.question(load(), {"points": points.tolist()})
    right = question.options[question.right]
    # By hand: the share caught by a line, degree by degree.
    caught = np.array([numbers.caught(points, angle) for angle in range(180)])
    if np.ptp(caught) < 1e-9:
        assert right == text.PCA_SAME
        return
    assert math.isclose(caught.max(), other.explained_variance_ratio_[0], abs_tol=1e-3)
    turned = int("".join(filter(str.isdigit, right)))
    away = abs(turned - int(caught.argmax()))
    assert min(away, 180 - away) <= 3
    best = [
        numbers.caught(points, int("".join(filter(str.isdigit, option))))
        for option in question.options
        if option != text.PCA_SAME
    ]
    assert np.argmax(best) == question.right


def test_the_angle_is_right_wherever_the_points_are_put():
    for _ in range(40):
        points = np.array([[pca.REACH[0], pca.REACH[1]]]) * rng.uniform(-1, 1, size=(4, 2))
        question = pca.STEP.question(load(), {"points": points.tolist()})
        axis = PCA(2).fit(points).components_[0]
        angle = np.degrees(np.arctan2(axis[1], axis[0])) % 180
        turned = int("".join(filter(str.isdigit, question.options[question.right])))
        assert min(abs(turned - angle), 180 - abs(turned - angle)) <= 2.5 + 1e-6


def test_points_in_one_place_have_no_direction():
    question = pca.STEP.question(load(), {"points": [[1, 1]] * 4})
    assert question.options[question.right] == text.PCA_SAME
    assert numbers.caught(np.ones((4, 2)), 30) == 0


def test_shadows_lie_on_the_line_and_legs_stand_upright_on_it():
    points = rng.normal(size=(4, 2))
    on_line = numbers.shadows(points, 37)
    legs, along = points - on_line, on_line - points.mean(axis=0)
    assert np.allclose(legs @ numbers.unit(37), 0)
    assert np.allclose(np.abs(along @ numbers.unit(37)), np.linalg.norm(along, axis=1))


def test_a_click_moves_the_chosen_point_or_chooses_another():
    start = pca.STEP.start(load())
    moved = pca.STEP.click([2.5, -1.0], start)
    assert moved["points"][0] == [2.5, -1.0] and (moved["x"], moved["y"]) == (2.5, -1.0)
    assert start["points"][0] != [2.5, -1.0]
    other = pca.STEP.click(start["points"][2], start)
    assert other["point"] == 2 and other["points"] == start["points"]
    far = pca.placed(start["points"], 1, 99, -99)[1]
    assert far == [pca.REACH[0], -pca.REACH[1]]
    for junk in (None, {}, [1], ["a", "b"], [None, 2], "12"):
        assert pca.STEP.click(junk, start) == {}


# 3 ----------------------------------------------------------------------------------------------------


def test_what_two_components_leave_out(seen):
    space_total = seen.geometry.explained
    for chosen in settings(apart.STEP, seen):
        first, second = (int(part) for part in chosen["axes"].split(","))
        question = apart.STEP.question(seen, chosen)
        left = 100 - 100 * space_total[first - 1] - 100 * space_total[second - 1]
        assert abs(percent(question.options[question.right]) - left) <= 0.5 + 1e-9


def test_the_dividing_line_is_that_of_linear_discriminant_analysis():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    cloud = load().clouds["none"]
    xy = cloud.coordinates[:, :2]
    line = numbers.dividing_line(xy, cloud.harmful)
    other = LinearDiscriminantAnalysis().fit(xy, cloud.harmful)
    assert numbers.own_side(line, xy, cloud.harmful) == (other.predict(xy) == cloud.harmful).sum()
    ends = numbers.clipped(line, (-80, 80), (-80, 80))
    assert np.allclose(line.sides(ends), 0) and (np.abs(ends) <= 80 + 1e-9).all()
    assert len(numbers.clipped(numbers.Line(np.array([1.0, 0.0]), 500.0), (-80, 80), (-80, 80))) == 0


# 4 ----------------------------------------------------------------------------------------------------


def test_whether_refusals_went_up_or_down(seen):
    for chosen in settings(moves.STEP, seen):
        question = moves.STEP.question(seen, chosen)
        before, after = (seen.clouds[chosen[key]] for key in ("before", "after"))
        rates = [
            100 * np.mean([r for r, h in zip(c.refusal_rate, c.harmful, strict=True) if h])
            for c in (before, after)
        ]
        change = rates[1] - rates[0]
        expected = 2 if abs(change) <= 2 + 1e-6 else 0 if change > 0 else 1
        assert question.right == expected, chosen


def test_on_the_shipped_model_human_prompts_lower_refusals_against_its_identity():
    seen = load()
    for after in ("default", "mistral", "short"):
        assert moves.STEP.question(seen, {"before": "template", "after": after}).right == 1
    assert moves.STEP.question(seen, {"before": "none", "after": "default"}).right == 0
    assert moves.STEP.question(seen, {"before": "none", "after": "mistral"}).right == 2


def test_the_answer_is_covered_until_it_is_given():
    seen = load()
    chosen = moves.STEP.start(seen)
    for solved, shown in ((False, [0, 0]), (True, [42.25, 55])):
        [bars] = [t for t in moves.STEP.draw(seen, {**chosen, "solved": solved}).data if t.type == "bar"]
        assert list(bars.x) == shown


# 5 ----------------------------------------------------------------------------------------------------


def test_which_way_the_normal_points(seen):
    for chosen in settings(refusal.STEP, seen):
        cloud = seen.clouds[chosen["prompt"]]
        targets = cloud.refusal_rate if chosen["asked"] == "refused" else 1 - cloud.refusal_rate
        xy = cloud.coordinates[:, :2]
        scale = xy.std()
        other = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(
            np.concatenate([xy, xy]) / scale, np.repeat([1, 0], len(xy)),
            sample_weight=np.concatenate([targets, 1 - targets]),
        )  # fmt: skip
        line = numbers.logistic_line(xy, targets)
        assert np.allclose(line.normal * scale, other.coef_[0], atol=1e-4)
        assert np.isclose(line.offset, other.intercept_[0], atol=1e-4)
        ahead = np.corrcoef(other.decision_function(xy / scale), cloud.refusal_rate)[0, 1]
        question = refusal.STEP.question(seen, chosen)
        assert question.right == (0 if ahead > 0 else 1)


def test_asking_for_answers_turns_the_arrow_round():
    seen = load()
    ways = [
        refusal.STEP.question(seen, {"prompt": "template", "asked": asked}).right
        for asked in ("refused", "answered")
    ]
    assert ways == [0, 1]


def test_ranking_is_the_area_under_the_curve_where_targets_are_hard():
    from sklearn.metrics import roc_auc_score

    scores, labels = rng.normal(size=50).round(1), rng.integers(0, 2, 50)
    assert numbers.ranked_right(scores, labels.astype(float)) == pytest.approx(roc_auc_score(labels, scores))


# 6 ----------------------------------------------------------------------------------------------------


def test_what_the_sign_of_a_move_says(seen):
    run = seen.run
    for chosen in settings(training.STEP, seen, 150):
        question = training.STEP.question(seen, chosen)
        step, query = int(chosen["step"]), chosen["query"]
        moved = run.frames[step][query][0] - run.frames[0][query][0]
        said = question.options[question.right]
        if moved == 0:
            assert said == "It has not moved"
            continue
        assert ("towards" in said) == (moved > 0)
        assert ("not wanted" in said) == ((moved > 0) != bool(run.harmful[query]))
        assert f"{moved:+.2f}" in question.ask


def test_the_first_frame_is_where_the_text_leaves_the_queries():
    """The recording starts at x0: frame 0 of the trained-on half is where the shipped anchors lie."""
    from dro.models import default_key
    from dro.space import shipped

    seen, space = load(), shipped(default_key("bf16"))
    rows = space.anchors.rows(seen.run.init)
    logits = space.need_refusal().logits(space.anchors.coordinates[rows])
    for query, known, frame in zip(seen.run.queries, seen.run.trained, seen.run.frames[0], strict=True):
        if known:
            assert frame[0] == pytest.approx(logits[space.anchors.queries.index(query)], abs=0.25)


def test_a_click_follows_a_query():
    seen = load()
    assert training.STEP.click(["a", 3], {}) == {"query": 3}
    for junk in (None, [], ["a"], ["a", "b"], ["a", -1], {"query": 3}):
        assert training.STEP.click(junk, {}) == {}
    assert training.STEP.question(seen, {"step": 999, "query": 999}).options


# 7 ----------------------------------------------------------------------------------------------------


def test_what_may_be_said_of_a_difference(seen):
    for chosen in settings(cost.STEP, seen):
        measured = seen.measured(chosen["run"])
        before, after = measured.prompts[-2:]
        kind, n = chosen["kind"] == "harmful", measured.count
        counts = [round(measured.rates[name, kind][0] * n) for name in (before, after)]
        wilson = [interval(np.array([1.0] * count + [0.0] * (n - count))) for count in counts]
        (l1, u1), (l2, u2) = wilson
        p1, p2 = counts[0] / n, counts[1] / n
        low = p2 - p1 - math.sqrt((p2 - l2) ** 2 + (u1 - p1) ** 2)
        high = p2 - p1 + math.sqrt((u2 - p2) ** 2 + (p1 - l1) ** 2)
        expected = 0 if low > 0 else 1 if high < 0 else 2
        assert cost.STEP.question(seen, chosen).right == expected


def test_newcombes_interval_is_that_of_his_paper():
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 is 0.2000, 0.0524 to 0.3339."""
    rates = [(k / n, *interval(np.array([1.0] * k + [0.0] * (n - k)))) for k, n in ((48, 80), (56, 70))]
    assert numbers.difference(*rates) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


# What is recorded ---------------------------------------------------------------------------------------


def test_the_long_run_is_the_published_one():
    published = json.loads((ASSET.parents[2] / "docs/results/raw/best_test.json").read_text(encoding="utf-8"))
    from explorer.lessons.record import long_run

    assert json.loads(ASSET.read_text(encoding="utf-8"))["long"] == long_run(published), (
        "docs/results has changed: python -m explorer.lessons.record"
    )


def test_the_recording_holds_numbers_and_bundled_queries_only():
    from dro.data import bundled

    told = json.loads(ASSET.read_text(encoding="utf-8"))
    known = {*bundled("anchors").texts, *bundled("validation", "select").texts}
    assert {row["query"] for row in told["pairs"]} | set(told["short"]["queries"]) <= known

    def words(value):
        if isinstance(value, dict):
            return set().union(set(), *map(words, value.values()))
        if isinstance(value, list):
            return set().union(set(), *map(words, value))
        return {value} if isinstance(value, str) else set()

    others = words(told) - known
    assert all(len(word) < 120 for word in others) and len(others) < 20
    assert ASSET.stat().st_size < 200_000


def test_a_recording_of_another_space_is_refused(space, raised):
    told = recording(space)
    assert "was recorded in the space other" in raised(
        lambda: material(space, {**told, "space": "other"}), StoreError
    )
    told["short"]["loss"] = [0.1]
    assert "frames (4, 4, 2)" in raised(lambda: material(space, told), StoreError)


def test_the_tour_keeps_a_value_for_every_control():
    seen = load()
    for step in STEPS:
        keys = [control.key for control in step.controls(seen)]
        assert len(set(keys)) == len(keys) and set(step.start(seen)) == set(keys)
        kept = [control for control in step.controls(seen) if isinstance(control, Kept)]
        assert len(kept) <= 1
