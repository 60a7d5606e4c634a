"""A local cluster of two workers, some of them killed: what comes out is what one process finds."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from conftest import pairs

from dro import evaluate, fitting, ray_pool, shards, spread
from dro.cli import main
from dro.engine import Call, Here, Opened, Size
from dro.errors import DataError, ModelError
from dro.generate import Decoding
from dro.prompts import resolve
from dro.ray_pool import cluster, pool

PROMPTS = ("none", "short", "template")
LABELS = Decoding(4, samples=2, temperature=1.0)


@pytest.fixture(scope="module", autouse=True)
def ray():
    """One cluster for all tests here: it takes a while to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster() as joined:
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
