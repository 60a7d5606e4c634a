"""The map that keeps neighbours together: frozen, seeded, told as it goes."""

import numpy as np
import pytest

from dro.errors import DataError
from dro.neighbour_map import MapSettings, fit

draw = np.random.default_rng(0)
GROUPS = np.repeat(np.eye(3, 6) * 12, 20, axis=0) + draw.normal(size=(60, 6))
SETTINGS = MapSettings(neighbours=8)


@pytest.fixture(scope="module")
def fitted():
    seen = []
    return fit(GROUPS, SETTINGS, seen.append, epochs=60), seen


def nearest_groups(found, places):
    return [int(np.argmin(np.linalg.norm(found(GROUPS) - place, axis=1))) // 20 for place in places]


def test_groups_stay_together_and_new_points_join_theirs(fitted):
    found, _ = fitted
    new = np.eye(3, 6) * 12 + 0.1
    before = found(GROUPS)
    assert nearest_groups(found, found(new)) == [0, 1, 2]
    assert np.array_equal(before, found(GROUPS)), "new points move nothing"


def test_a_point_does_not_move_between_two_looks(fitted):
    found, _ = fitted
    new = draw.normal(size=(4, 6))
    alone = found(new[:1])
    assert np.array_equal(found(new)[0], alone[0])
    assert found(np.empty((0, 6))).shape == (0, 2)


def test_the_same_seed_gives_the_same_map(fitted):
    found, _ = fitted
    again = fit(GROUPS, SETTINGS, epochs=60)
    other = fit(GROUPS, MapSettings(neighbours=8, seed=1), epochs=60)
    assert np.array_equal(found(GROUPS), again(GROUPS))
    assert not np.allclose(found(GROUPS), other(GROUPS))


def test_progress_grows_to_the_end(fitted):
    _, seen = fitted
    assert seen == sorted(seen) and seen[-1] == 1 and len(seen) >= 60, "told at every step"


def test_it_stops_when_asked(monkeypatch):
    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(GROUPS, SETTINGS, checkpoint=stop, epochs=30)
    calls = []

    def stop_later():
        calls.append(1)
        if len(calls) > 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(GROUPS, SETTINGS, checkpoint=stop_later, epochs=5000)


@pytest.mark.parametrize(
    "told",
    [{"neighbours": 1}, {"neighbours": 2.5}, {"neighbours": "many"}, {"neighbours": float("nan")},
     {"min_dist": 2}, {"min_dist": None}, {"min_dist": float("nan")}, {"seed": -1}, {"seed": True}],
)  # fmt: skip
def test_odd_settings_are_named(told):
    with pytest.raises(DataError, match=next(iter(told))):
        MapSettings(**told)


def test_too_few_points_are_refused():
    with pytest.raises(DataError, match="neighbours"):
        fit(GROUPS[:5], SETTINGS)
