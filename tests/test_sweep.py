"""Sweeps: what is tried, what is stopped, and that a killed one goes on; on one process."""

import json

import pytest
from conftest import random_space

from dro import run_folder, space
from dro.cli import main
from dro.engine import Here, Opened
from dro.errors import DataError, StoreError
from dro.sweep import run as sweep_run
from dro.sweep.grid import Plan, Trial
from dro.sweep.halving import survivors
from dro.sweep.trial import Look

PLAN = Plan((2, 4), (0.0, 1e-3), 2, "paper", steps=4, batch=4, look=1)


@pytest.fixture(scope="module")
def model(tiny_folder):
    return Opened(str(tiny_folder), "fp32").load()


@pytest.fixture(scope="module")
def there(model, anchors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spaces") / "space"
    space.save(random_space(model, anchors), folder)
    return folder


def curves(folder):
    """Every trial's steps but for the seconds they took."""
    return {
        path.name: [{**vars(step), "seconds": 0} for step in run_folder.read_curve(path)]
        for path in sorted(folder.iterdir())
    }


def test_a_grid_holds_every_width_weight_and_seed_once():
    plan = Plan((4, 2, 4), (0.0, 1e-3), 3)
    trials = plan.trials()
    assert len(trials) == len({trial.name for trial in trials}) == 12
    assert trials[0].name == "m2-beta0-s42" and plan.config(trials[-1]).residual_weight == 1e-3
    assert plan.config(trials[-1]).seed == 44 and plan.config(trials[0]).choose == "mass"


def test_rungs_are_looks():
    assert Plan((2,), (0.0,), steps=60, look=15).rungs() == [15, 30, 60]
    assert Plan((2,), (0.0,), steps=60, look=60).rungs() == [60]
    assert Plan((2,), (0.0,), steps=60, look=15, early=False).rungs() == [60]


@pytest.mark.parametrize("odd", [{"m": ()}, {"m": (0,)}, {"beta": (-1.0,)}, {"seeds": 0}, {"recipe": "none"}])
def test_a_sweep_that_cannot_be_is_refused_at_birth(odd):
    with pytest.raises(DataError):
        Plan(**{"m": (2,), "beta": (0.0,), **odd})


def test_the_worse_half_of_the_settings_stops_by_the_mean_of_its_seeds():
    seen = {
        # One lucky seed does not save a setting.
        Trial(2, 0.0, 1): [Look(1, 0, 0, 0.9)], Trial(2, 0.0, 2): [Look(1, 0, 0, -0.9)],
        Trial(4, 0.0, 1): [Look(1, 0, 0, 0.2)], Trial(4, 0.0, 2): [Look(1, 0, 0, 0.2), Look(2, 0, 0, -9.0)],
        Trial(8, 0.0, 1): [Look(1, 0, 0, 0.1)], Trial(8, 0.0, 2): [Look(1, 0, 0, 0.1), Look(2, 0, 0, 9.0)],
    }  # fmt: skip
    kept = survivors(list(seen), seen, 1)
    assert {trial.setting for trial in kept} == {"m4-beta0", "m8-beta0"}  # of three, two
    # Later looks, there after a restart, do not count at an earlier rung.
    assert [trial.setting for trial in survivors(kept, seen, 1)] == ["m4-beta0", "m4-beta0"]


def test_a_sweep_stops_the_hopeless_and_examines_the_best(model, there, tmp_path):
    shown = []
    found = sweep_run.run(
        Here(model), PLAN, tmp_path, there, lambda rows: shown.append([r.step for r in rows])
    )
    states = [row.state for row in found.rows]
    assert len(states) == 8 and states.count("done") == 2 and states.count("stopped") == 6
    assert sorted(row.step for row in found.rows) == [1] * 4 + [2] * 2 + [4] * 2
    done = [row for row in found.rows if row.state == "done"]
    assert found.best is max(done, key=lambda row: row.best.score)
    assert {told["class"]: told["n"] for told in found.examined["results"]} == {"harmful": 50, "harmless": 50}
    assert shown[0] == [0] * 8 and sum(shown[-1]) == 16 and len(shown) == 18
    before = curves(tmp_path)
    again = sweep_run.run(Here(model), PLAN, tmp_path, there)  # nothing is left to do
    assert [row.state for row in again.rows] == states and curves(tmp_path) == before


def test_another_sweep_in_its_folder_is_refused(tmp_path):
    sweep_run.begin(tmp_path / "out", PLAN, ("tiny",), None)
    sweep_run.begin(tmp_path / "out", PLAN, ("tiny",), None)
    with pytest.raises(StoreError, match=r"another sweep .*steps"):
        sweep_run.begin(tmp_path / "out", Plan((2, 4), (0.0, 1e-3), 2, "paper", 8, 4, 1), ("tiny",), None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="other files"):
        sweep_run.begin(tmp_path / "other", PLAN, ("tiny",), None)
    run_folder.release(tmp_path / "out")


def test_the_command_writes_page_and_figure(tiny_folder, there, capsys, tmp_path):
    words = ["sweep", "--out", str(tmp_path / "out"), "--models", str(tiny_folder), "--precision", "fp32",
             "--space", str(there), "--m", "2,4", "--beta", "0", "--seeds", "1", "--recipe", "paper",
             "--steps", "2", "--batch", "4", "--look", "1"]  # fmt: skip
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (one,) = told["models"]
    assert [trial["state"] for trial in one["trials"]].count("done") == 1 and one["best"]
    page = (tmp_path / "out" / "sweep.md").read_text()
    assert "2 of 2 trials are over" in page and "python -m dro sweep" in page and "m2-beta0-s42" in page
    assert (tmp_path / "out" / "sweep.svg").read_text().startswith("<svg")
    assert main([*words, "--m", "2,99"]) == 1
    assert "another sweep" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "wide"), "--m", "99"]) == 1
    assert "4 components" in capsys.readouterr().err
