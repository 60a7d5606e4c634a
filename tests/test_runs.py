"""Runs that outlive the page, on the tiny model."""

import time

import numpy as np
import pytest
from conftest import random_space

from dro import outline, store
from dro.data import bundled
from dro.errors import DataError, StoreError
from dro.recipes import Config
from dro.run_folder import CONFIG_FILE
from dro.states import PrefixCache, last_token_states
from explorer import training as module
from explorer.gpu import Bench
from explorer.packages import package
from explorer.run import MEASURED_FILE, watch_set
from explorer.runs import Runs
from explorer.turns import Turns


def bench(tiny, space):
    return Bench(tiny, space, PrefixCache(tiny), 1e5)


@pytest.fixture
def runs(tiny, space, tmp_path):
    made = Runs(bench(tiny, space), tmp_path, Turns())
    yield made
    made.close()


def wait(run, *phases, seconds=90):
    deadline = time.monotonic() + seconds
    while run.phase not in phases:
        assert time.monotonic() < deadline, (run.phase, run.message)
        assert not run.over, (run.phase, run.message)
        time.sleep(0.02)


def config(**changes):
    return Config.model_validate({"steps": 3, "batch": 4, "validate_every": 0, **changes})


def test_a_run_trains_saves_and_measures(runs, tiny, space, tmp_path):
    run = runs.start(config(), "quick")
    wait(run, "done")
    assert [s.step for s in run.steps] == [1, 2, 3] and run.usable and runs.usable() == [run.name]
    assert [(r.prompt, r.label, r.n) for r in run.rates] == [
        ("short", "harmful", 50), ("short", "harmless", 50),
        (run.name, "harmful", 50), (run.name, "harmless", 50),
    ]  # fmt: skip
    prompt = runs.prompt(run.name)
    expected = last_token_states(tiny, prompt, space.anchors.queries)
    assert np.allclose(runs.anchor_states(run.name), expected, atol=1e-4)
    assert np.abs(run.watched.looks[-1][1] - run.watched.looks[0][1]).max() > 0
    again = Runs(bench(tiny, space), tmp_path, Turns())
    found = again.get(run.name)
    assert found.phase == "done" and found.rates == run.rates and len(found.steps) == 3
    ends = [run.watched.looks[0], run.watched.looks[-1]]
    for (step, places), (then, kept) in zip(found.watched.looks, ends, strict=True):
        assert step == then and np.allclose(places, kept)
    again.close()


def test_a_run_can_be_taken_away_and_brought_in_again(runs, tiny, tmp_path):
    import zipfile

    from dro.exports import bundle

    run = runs.start(config(), "quick")
    wait(run, "done")
    with zipfile.ZipFile(package(run, tiny)) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "taken")
    stem = run.name
    assert {f"{stem}/soft_prompt.safetensors", f"{stem}/dro_prompt.json", f"{stem}/README.md"} <= names
    found = bundle.read(tmp_path / "taken" / stem)
    assert np.array_equal(found.prompt.vectors, runs.prompt(run.name).vectors)
    assert list(found.rates) == [rate.as_dict() for rate in run.rates]
    assert bundle.check(found, outline.of_model(tiny)) == []


def test_the_watch_set_is_half_trained_on_and_of_both_classes():
    watched = watch_set(bundled("anchors"), bundled("validation", "select"))
    texts = set(bundled("anchors").texts)
    assert [t in texts for t in watched.queries.texts] == watched.trained.tolist()
    assert len(watched.queries) == 32 and watched.trained.sum() == 16 and watched.harmful.sum() == 16


def test_stop_keeps_what_is_there(runs):
    run = runs.start(config(steps=500), "quick")
    wait(run, "training")
    run.stop.set()
    wait(run, "stopped")
    assert 0 < len(run.steps) < 500 and run.usable and len(run.rates) == 4


def test_a_run_stopped_while_waiting_keeps_nothing(runs):
    first = runs.start(config(steps=500), "quick")
    second = runs.start(config(), "quick")
    second.stop.set()
    first.stop.set()
    wait(second, "stopped")
    assert not second.usable and second.message


def test_runs_get_names_of_their_own_and_go_one_after_the_other(runs):
    first, second = runs.start(config(), "quick"), runs.start(config(init="default"), "quick")
    assert [first.name, second.name] == ["dro-short-1", "dro-default-2"]
    assert runs.active() is first
    wait(second, "training", "saving", "measuring", "done")
    assert first.over


def test_an_interrupted_run_is_found_and_goes_on(runs, tiny, space, tmp_path):
    run = runs.start(config(steps=40), "quick")
    wait(run, "training")
    run.stop.set()
    wait(run, "stopped")
    (run.folder / "soft_prompt.safetensors").unlink()
    (run.folder / MEASURED_FILE).unlink()
    again = Runs(bench(tiny, space), tmp_path, Turns())
    found = again.get(run.name)
    assert found.phase == "interrupted" and not found.usable
    taken = len(found.steps)
    again.resume(run.name)
    wait(found, "done")
    assert len(found.steps) == 40 > taken and found.usable
    again.close()


def test_runs_of_another_space_are_left_out(runs, tiny, anchors, tmp_path):
    run = runs.start(config(), "quick")
    wait(run, "done")
    other = Runs(bench(tiny, random_space(tiny, anchors, m=3)), tmp_path, Turns())
    assert other.names() == []
    other.close()


def test_the_papers_preset_trains_in_the_papers_space(
    runs, tiny, space, anchors, tmp_path, monkeypatch, raised
):
    settings = config(space="paper", target="difference")
    assert "--recipe paper" in raised(lambda: runs.start(settings, "paper"), StoreError)
    theirs = random_space(tiny, anchors, m=2)
    monkeypatch.setattr(module, "find", lambda model, recipe: {"paper": theirs}[recipe])
    run = runs.start(settings, "paper")
    wait(run, "done")
    assert store.read_json(run.folder / CONFIG_FILE)["space"] == theirs.name
    again = Runs(bench(tiny, space), tmp_path, Turns())
    assert again.usable() == [run.name]
    again.close()


def test_settings_that_ask_for_too_much_are_refused(runs, raised):
    assert "command line" in raised(lambda: runs.start(config(steps=5000), "quick"), DataError)
    assert "batch" in raised(lambda: runs.start(config(batch=500), "quick"), DataError)
    assert "no tokens to train" in raised(lambda: runs.start(config(init="none"), "quick"), DataError)
    assert "no run" in raised(lambda: runs.get("dro-x-1"), DataError)
    assert runs.names() == []


def test_a_failure_reaches_the_page_as_a_sentence(runs, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("dro.optimise.Optimisation", broken)
    run = runs.start(config(), "quick")
    wait(run, "failed")
    assert "boom" not in run.message and "log" in run.message


def test_a_query_is_answered_between_two_steps(runs, tiny, space):
    run = runs.start(config(steps=500), "quick")
    wait(run, "training")
    before = len(run.steps)
    with runs._turns.visitor():
        at = len(run.steps)
        time.sleep(0.1)
        assert len(run.steps) <= at + 1  # nothing trains while a visitor has the turn
    deadline = time.monotonic() + 30
    while len(run.steps) < before + 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.stop.set()
    wait(run, "stopped")


def test_more_steps_are_expected_to_take_longer(runs):
    assert runs.expect(config(steps=300)) > runs.expect(config(steps=30)) > 0
