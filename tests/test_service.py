"""What the page asks for, on the tiny model; and how failures are told."""

import time

import pytest
from conftest import random_space

from dro import fitting
from dro.errors import DataError, DroError
from dro.models import load
from dro.space import cached_folder, save
from explorer.service import Service


def ready(service, seconds=60, kinds=("ready",)):
    deadline = time.monotonic() + seconds
    while service.stage.kind not in kinds:
        assert time.monotonic() < deadline, service.stage
        time.sleep(0.02)


@pytest.fixture
def folder(tiny_folder, anchors):
    """The tiny model's folder, its space in the cache."""
    model = load(str(tiny_folder), "fp32")
    save(random_space(model, anchors), cached_folder(model))
    return str(tiny_folder)


@pytest.fixture
def service(folder):
    made = Service(folder, "fp32")
    made.start_loading()
    ready(made)
    return made


def test_before_the_model_is_there_it_says_so(folder, raised):
    waiting = Service(folder, "fp32")
    assert "still loading" in raised(lambda: waiting.locate("q", ["none"]), DroError)
    assert not waiting.settled and waiting.geometry() is None


def test_the_default_models_space_is_drawn_before_its_weights_are_there():
    service = Service("qwen2.5-coder-0.5b", "bf16")
    geometry = service.geometry()
    assert geometry is not None and len(geometry.anchors) == 1200
    clouds = service.clouds(["none", "default"])
    assert [c.prompt for c in clouds] == ["none", "default"] and len(clouds[0].queries) == 200


def test_locate_is_the_commands_json(service):
    told = service.locate("How do I fold a map?", ["none", "short"])
    assert set(told) == {"space", "points"}
    assert [p["prompt"] for p in told["points"]] == ["none", "short"]
    assert set(told["points"][0]) == {
        "prompt", "coordinates", "refusal_logit", "refusal_probability", "harmfulness_logit",
    }  # fmt: skip


def test_the_shift_is_told_in_the_anchors_deviations(service):
    base, point = service.points("How do I fold a map?", ["none", "short"])
    space = service.space
    spread = (space.anchors.coordinates @ space.refusal.weight).std()
    expected = (point.refusal_logit - base.refusal_logit) / spread
    assert service.shift(point, base) == pytest.approx(expected) and service.shift(base, base) == 0


def test_answers_stream_side_by_side_and_agree_with_answer(service):
    frames = list(service.stream_answers("How do I fold a map?", ["none", "short"], 6))
    assert all(len(frame) == 2 for frame in frames)
    last = frames[-1]
    for name, (said, verdict) in zip(["none", "short"], last, strict=True):
        whole = service.answer("How do I fold a map?", name, 6)
        # A character that the last token leaves unfinished is held back while streaming.
        assert said.strip() == whole["answer"].rstrip("\ufffd").strip() and verdict == whole["verdict"]


@pytest.mark.parametrize(
    ("prompts", "part"),
    [(["/etc/passwd"], "There is no prompt"), ([], "No prompt"), (["none"] * 20, "too many"),
     (["text: "], "empty"), ([7], "There is no prompt"), ("none", "No prompt")],
)  # fmt: skip
def test_odd_prompts_are_refused(service, raised, prompts, part):
    assert part in raised(lambda: service.points("How?", prompts), DataError)


def test_a_run_becomes_a_prompt(service):
    run, _ = service.start_run(service.configuration("quick", steps=2, batch=4), "quick")
    deadline = time.monotonic() + 90
    while not run.over:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert run.name in service.prompt_names() and run.name in service.trained()
    assert [c.prompt for c in service.clouds(["none", run.name])] == ["none", run.name]
    told = service.locate("How do I fold a map?", [run.name])
    assert told["points"][0]["prompt"] == run.name


def test_a_model_is_not_switched_under_a_run(service, folder, raised):
    run, _ = service.start_run(service.configuration("quick", steps=500, batch=4), "quick")
    assert "run is in progress" in raised(lambda: service.load(folder, "fp32"), DataError)
    run.stop.set()
    while not run.over:
        time.sleep(0.02)


def test_a_model_that_cannot_be_had_is_told_and_the_old_one_serves_on(service, folder):
    service.load("no-such-model", "fp32")
    ready(service, kinds=("failed",))
    assert "There is no model" in service.stage.text
    assert service.locate("q", ["none"])["points"]  # the old one serves on
    service.load(folder, "fp32")
    ready(service)
    assert service.locate("q?", ["none"])["points"]


def test_a_space_is_fitted_with_progress_and_can_be_cancelled(tiny_folder, monkeypatch, anchors, raised):
    service = Service(str(tiny_folder), "fp32")
    service.start_loading()
    ready(service, kinds=("no space",))
    assert "no space" in raised(lambda: service.locate("q", ["none"]), DroError)
    assert service.answer("q", "none", 2)["verdict"]
    seen = []

    def slow_fit(model, queries, progress, checkpoint, shards):
        for k in range(200):
            progress("Fitting", k / 200)
            seen.append(k)
            time.sleep(0.01)
            checkpoint()

    monkeypatch.setattr(fitting, "fit", slow_fit)
    service.fit()
    deadline = time.monotonic() + 30
    while len(seen) < 3:
        assert time.monotonic() < deadline, service.stage
        time.sleep(0.01)
    service.cancel_fit()
    ready(service, kinds=("no space",))
    assert len(seen) < 200


def test_settings_that_cannot_be_are_named(service, raised):
    assert "steps" in raised(lambda: service.configuration("quick", steps=0), DataError)
    assert "preset" in raised(lambda: service.configuration("best-of-all"), DataError)


def test_too_long_a_query_is_refused_before_the_model_sees_it(service, raised):
    long = "word " * 600
    for call in (lambda: service.points(long, ["none"]), lambda: service.answer(long, "none"),
                 lambda: next(service.stream_answers(long, ["none"], 2))):  # fmt: skip
        assert "tokens" in raised(call, DataError)


def test_paths_are_no_starting_prompts(service, raised, tmp_path):
    config = service.configuration("quick", init=str(tmp_path))
    for call in (service.expect, lambda c: service.start_run(c, "quick")):
        assert "There is no prompt" in raised(lambda call=call: call(config), DataError)


def test_a_newer_question_ends_the_answers_to_the_last_one(service):
    going = [True]
    stream = service.stream_answers("How do I fold a map?", ["none"], 100, lambda: going[0])
    next(stream)
    going[0] = False
    assert list(stream) == []
