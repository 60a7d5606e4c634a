"""A local cluster of two workers, some of them killed: what comes out is what one process finds."""

import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import pairs, random_space

from dro import evaluate, fitting, ray_pool, run_folder, shards, space, spread, studies
from dro.cli import main
from dro.engine import Call, Here, Opened, Size
from dro.errors import DataError, ModelError
from dro.generate import Decoding
from dro.prompts import resolve
from dro.ray_pool import cluster, pool
from dro.studies import spread as study_spread
from dro.studies.asked import Asked
from dro.sweep.grid import Plan
from dro.sweep.run import OVER
from dro.sweep.run import run as sweep_run

pytestmark = pytest.mark.engine
PROMPTS = ("none", "short", "template")
LABELS = Decoding(4, samples=2, temperature=1.0)


@pytest.fixture(scope="module", autouse=True)
def ray():
    """One cluster for all tests here: it takes a while to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster(cores=4) as joined:  # two workers stay, two come and go
            # Workers do not find the tests' folder: what they call here is brought to them whole.
            joined.cloudpickle.register_pickle_by_value(sys.modules[__name__])
            yield joined


@pytest.fixture(scope="module")
def opened(tiny_folder):
    return Opened(str(tiny_folder), "fp32")


@pytest.fixture(scope="module")
def workers(opened):
    with pool(opened, Size(workers=2)) as found:
        yield found


@pytest.fixture(scope="module")
def model(opened):
    return opened.load()


def test_200_queries_with_a_worker_killed_in_the_middle_give_the_report_of_one_process(
    ray, workers, model, own_cache
):
    asked, decoding = [pairs(100)], Decoding(24)
    prompts = [resolve(name, model) for name in PROMPTS]
    alone = evaluate.evaluate(model, prompts, asked, decoding)
    before = ray.get([worker.process.remote() for worker in workers.workers])
    told = []

    def kill(label, fraction):
        told.append(fraction)
        if label == "Answers" and len(told) == 4:
            os.kill(before[1], signal.SIGKILL)

    found, parts = spread.evaluate(workers, prompts, asked, decoding, kill)
    assert found == alone and len(found.said) == 200 * len(PROMPTS)
    # Each part is told once, those of the dead worker too.
    jobs = len(list(shards.folder().glob("*.json")))
    assert told[1:] == [(n + 1) / jobs for n in range(jobs)] and jobs > 12
    assert ray.get([worker.process.remote() for worker in workers.workers])[1] != before[1]
    parts.clear()
    assert not list(shards.folder().glob("*.json"))


def test_sampled_answers_are_those_of_one_process(workers, model):
    decoding = Decoding(8, samples=3, temperature=1.0, seed=5)
    prompts = [resolve("short", model)]
    alone = evaluate.evaluate(model, prompts, [pairs(40)], decoding)
    assert spread.evaluate(workers, prompts, [pairs(40)], decoding)[0] == alone


def test_what_was_finished_before_everything_died_is_not_asked_again(workers, model):
    asked, prompts = [pairs(60)], [resolve(name, model) for name in PROMPTS]

    def stop(label, fraction):
        if fraction > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spread.evaluate(Here(model), prompts, asked, progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in shards.folder().glob("*.json")}
    found, _ = spread.evaluate(workers, prompts, asked)
    assert found == evaluate.evaluate(model, prompts, asked)
    assert kept and all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_a_fit_on_two_workers_is_the_fit_of_one_process(workers, model, anchors, monkeypatch, tmp_path):
    # Workers search among all strengths; so does this process.
    alone = fitting.fit(model, anchors, 4, LABELS)
    found, parts = spread.fit(workers, anchors, 4, LABELS)
    assert found.name == alone.name and found.openings == alone.openings
    for ours, theirs in (
        (found.projection.basis, alone.projection.basis),
        (found.anchors.coordinates, alone.anchors.coordinates),
        (found.anchors.refusal_rate, alone.anchors.refusal_rate),
        (found.harmfulness.weight, alone.harmfulness.weight),
    ):
        assert np.array_equal(ours, theirs)
    assert list(found.health) == list(alone.health)
    parts.clear()


def die_once(model, file):
    """Kill this worker's process in the middle of a call, the first time."""
    if not os.path.exists(file):
        open(file, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return model.name


def die(model):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(model):
    raise DataError("This cannot be.", "Ask otherwise.")


def length(model, text):
    return len(text)


def test_a_call_whose_worker_dies_in_it_is_made_again_and_told_once(workers, model, tmp_path):
    told = []

    def after(call, found):
        told.append((call.key, found))
        return [Call("next", length, ("four",))] if call.key == "dies" else ()

    workers.work([Call("dies", die_once, (str(tmp_path / "once"),)), Call("other", length, ("two",))], after)
    assert sorted(told) == [("dies", model.name), ("next", 4), ("other", 3)]


def test_a_call_that_kills_every_worker_is_named(opened, monkeypatch):
    monkeypatch.setattr(ray_pool, "TRIES", 1)
    with (
        pool(opened, Size(workers=2)) as found,
        pytest.raises(ModelError, match=r"died of the same call \(bad\)"),
    ):
        found.work([Call("bad", die)], lambda call, result: ())


def test_an_error_of_ours_comes_back_whole(workers):
    with pytest.raises(DataError) as caught:
        workers.ask(fail)
    assert (caught.value.cause, caught.value.remedy) == ("This cannot be.", "Ask otherwise.")


def test_more_workers_than_fit_are_refused_with_what_there_is(opened):
    told = r"1000 workers of 1 cores and 0 GPUs do not fit.*--workers"
    with pytest.raises(ModelError, match=told), pool(opened, Size(workers=1000)):
        pass


PLAN = Plan((2, 4), (0.0, 1e-3), 2, "paper", steps=4, batch=4, look=1)


def bytes_of(folder):
    """Every file of every trial; curves without the seconds that steps took."""
    found = {}
    for path in sorted(folder.glob("*/*")):
        name, content = str(path.relative_to(folder)), path.read_bytes()
        if path.name == run_folder.STEPS_FILE:
            content = [{**vars(step), "seconds": 0} for step in run_folder.read_curve(path.parent)]
        found[name] = content
    return found


def killed_sweep(model, folder, there, pieces):
    """A sweep in a process of its own, which is killed by signal 9 after so many pieces."""
    child = os.fork()
    if child == 0:
        left = iter(range(pieces))

        def count(rows):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sweep_run(Here(model), PLAN, folder, there, count)
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def test_a_sweep_of_8_trials_killed_and_restored_ends_as_an_unbroken_one(
    ray, workers, model, anchors, tmp_path
):
    there = tmp_path / "space"
    space.save(random_space(model, anchors), there)
    unbroken = sweep_run(Here(model), PLAN, tmp_path / "unbroken", there)
    assert killed_sweep(model, tmp_path / "killed", there, 5) == signal.SIGKILL
    left = len(list((tmp_path / "killed").iterdir()))
    assert 0 < left < 8
    before = ray.get(workers.workers[0].process.remote())
    told = []

    def kill(rows):
        told.append(rows)
        if len(told) == 4:
            os.kill(before, signal.SIGKILL)

    found = sweep_run(workers, PLAN, tmp_path / "killed", there, kill)
    assert sum(row.state in OVER for row in found.rows) == len(found.rows) == 8
    assert [(row.trial, row.state, row.looks) for row in found.rows] == [
        (row.trial, row.state, row.looks) for row in unbroken.rows
    ]
    assert found.best.trial == unbroken.best.trial and found.examined == unbroken.examined
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "unbroken")
    assert ray.get(workers.workers[0].process.remote()) != before


def test_a_study_on_two_workers_is_the_study_of_one_process(workers, model, anchors, tmp_path):
    space.save(random_space(model, anchors), tmp_path / "space")
    asked = Asked("ablations", tmp_path / "work", 1, limit=2, steps=2, batch=4, space=tmp_path / "space")
    only = ["start", "full-s42", "without-l-u-s42"]
    found = study_spread.run(workers, asked, tmp_path / "ray", "a command", only)
    alone = studies.run(
        "ablations",
        replace(asked, work=tmp_path / "own").context(model),
        tmp_path / "here",
        "a command",
        only,
    )
    assert list(found.done) == list(alone.done) == only and found.cells == alone.cells

    def told(done):
        # Seconds differ, and nothing else.
        results = {name: {**cell.result, "training": None} for name, cell in done.items()}
        return results, {name: cell.settings for name, cell in done.items()}

    assert told(found.done) == told(alone.done)
    names = [sorted(p.name for p in (tmp_path / which / "raw").rglob("*.json")) for which in ("ray", "here")]
    assert names[0] == names[1] and found.page.exists()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray" / "raw").rglob("*.json")}
    study_spread.run(workers, asked, tmp_path / "ray", "a command", only)
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())  # nothing is measured twice


def test_the_commands_say_the_same_on_both_engines(tiny_folder, capsys, tmp_path):
    words = ["--model", str(tiny_folder), "--precision", "fp32", "--json"]
    evaluated, fitted = [], []
    for engine in ("here", "ray"):
        more = [*words, "--engine", engine, *(["--workers", "2"] if engine == "ray" else [])]
        assert main(["evaluate", "--prompt", "short", "--limit", "20", "--max-tokens", "4", *more]) == 0
        evaluated.append(json.loads(capsys.readouterr().out)["results"])
        fit = ["fit", "--limit", "6", "--label-tokens", "2", "--label-samples", "1", *more]
        assert main([*fit, "--out", str(tmp_path / engine)]) == 0
        capsys.readouterr()
        fitted.append(
            [(tmp_path / engine / f"space.{kind}").read_bytes() for kind in ("json", "safetensors")]
        )
    assert evaluated[0] == evaluated[1] and fitted[0] == fitted[1]


def test_engines_and_backends_that_do_not_go_together_are_refused(capsys):
    assert main(["evaluate", "--engine", "spark"]) == 1
    assert "no engine 'spark'" in capsys.readouterr().err
    server = ["--backend", "openai", "--base-url", "http://127.0.0.1:1/v1"]
    assert main(["evaluate", "--engine", "ray", *server]) == 1
    assert "--at-once" in capsys.readouterr().err
