"""Layers on the page: the same anchors in every frame, figures and words that say no more than they know."""

import json
import time

import numpy as np
import pytest
from conftest import random_space

from dro import layer_files, layers, models, probes
from dro.errors import DroError
from dro.space import cached_folder, save
from explorer import layer_figures, layer_views, layer_words
from explorer.service import Service
from explorer.tabs.layers import morph_json

CONDITIONS = ("none", "short", "<b>own</b>")
EACH = 20


def view(shown=CONDITIONS, count=5):
    rng = np.random.default_rng(0)
    coordinates = rng.normal(size=(count, 3 * EACH, 2)) * np.geomspace(1, 500, count)[:, None, None]
    coordinates[0] = 0
    arrows = rng.uniform(-0.5, 0.5, size=(count, 2))
    arrows[0] = 0
    return layer_views.morph(
        coordinates, arrows, np.linspace(0, 0.2, count), CONDITIONS, shown, np.arange(EACH) % 2 == 0,
        np.tile([0.0, 0.9], 30), [f"query {k} <i>" for k in range(EACH)],
    )  # fmt: skip


def readable(refusal=True, values=(0.5, 0.6, 0.5, 0.7, 0.8)):
    told = np.array([(v, v - 0.05, v + 0.05) for v in values])
    none = np.full_like(told, np.nan)
    cosine = np.array([np.nan, 0.0, 0.2, 0.5, 1.0]) if refusal else np.full(5, np.nan)
    shifts = {"short": np.array([0, 0.4, 2, 1, 1.0]), "<b>own</b>": np.array([0, 0.5, 1, 1, 1.0])}
    return layer_views.Readable(told, told if refusal else none, cosine, shifts, 16, 896)


def test_every_frame_moves_the_same_points_of_the_same_traces():
    told = json.loads(layer_figures.morph(view(), 4, ["words"] * 5))
    assert len(told["frames"]) == 5 and told["at"] == 4
    for frame in told["frames"]:
        assert frame["traces"] == list(range(len(told["data"])))
        assert [len(part["x"]) for part in frame["data"]] == [len(trace["x"]) for trace in told["data"]]
    assert [trace["x"] for trace in told["data"]] == [part["x"] for part in told["frames"][4]["data"]]
    assert len(told["data"][0]["customdata"]) == len(told["data"][0]["x"]) == 3 * EACH / 2


def test_nearly_all_points_fit_at_every_layer_and_the_others_are_counted():
    told = view()
    high = [high for _, high in layer_views.RANGES]
    for layer in range(1, 5):
        inside = (np.abs(told.frames[layer]) <= high).all(axis=1)
        assert inside.mean() > 0.9 and told.outside[layer] == (~inside).sum()
        assert np.abs(told.frames[layer]).max() > 0.5
    assert told.outside[0] == 0


def test_hiding_a_prompt_moves_nothing_else():
    whole, part = view(), view(shown=("short",))
    assert np.array_equal(part.frames, whole.frames[:, EACH : 2 * EACH])
    assert np.array_equal(part.means[True][:, 0], whole.means[True][:, 1])
    assert set(part.prompts) == {"short"}


@pytest.mark.parametrize("shown", [(), ("none",), CONDITIONS])
def test_any_choice_of_prompts_can_be_drawn(shown):
    told = layer_figures.morph(view(shown), 2, [""] * 5)
    assert "NaN" not in told and "<b>own" not in told and "<i>" not in told


@pytest.mark.parametrize("refusal", [True, False])
def test_the_chart_marks_the_layer_in_every_panel(refusal):
    told = json.loads(layer_figures.chart(readable(refusal), 3))
    assert len(told["frames"]) == 5
    markers = [told["data"][trace] for trace in told["frames"][3]["traces"]]
    assert [trace["x"] for trace in markers] == [[3, 3]] * 3
    assert {trace["yaxis"] for trace in markers} == {"y", "y2", "y3"}
    names = [trace.get("name", "") for trace in told["data"]]
    assert any("AUC" in name for name in names) == refusal
    assert "NaN" not in json.dumps(told) and "<b>own" not in json.dumps(told)


def test_readable_from_a_layer_on_means_there_and_at_every_later_one():
    def estimates(lows):
        return np.array([(low + 0.1, low, low + 0.2) for low in lows])

    assert layer_views.onset(estimates([0.4, 0.6, 0.4, 0.55, 0.6])) == 3
    assert layer_views.onset(estimates([0.6, 0.6])) == 0
    assert layer_views.onset(estimates([0.6, 0.4])) is None


def test_the_words_tell_what_is_there_and_what_cannot_be_told():
    told, read = view(), readable()
    assert "nothing can be read" in layer_words.at(told, read, 0)
    words = layer_words.at(told, read, 3)
    assert "Layer 3 of 4." in words and "70% [65%, 75%]" in words and "cosine +0.50" in words
    assert f"{told.outside[4]} points lie outside" in layer_words.at(told, read, 4) or not told.outside[4]
    assert "AUC" not in layer_words.at(told, readable(refusal=False), 3)
    summary = layer_words.summary(read)
    assert (
        "from layer 3 on; highest at layer 4" in summary and "does not mean that the model uses it" in summary
    )
    never = layer_words.summary(readable(values=(0.5, 0.5, 0.5, 0.5, 0.5)))
    assert "not readable above chance at the last layer" in never


def test_the_default_models_layers_need_no_weights():
    service = Service("qwen2.5-coder-0.5b", "bf16")
    assert service.layers is not None and not service.layers_wanted
    told = json.loads(morph_json(service, service.space.anchors.conditions))
    assert sum(len(trace["x"]) for trace in told["data"][:2]) == 1200 and len(told["frames"]) == 25
    fewer = json.loads(morph_json(service, ["none", "/etc/passwd", {}]))
    assert sum(len(trace["x"]) for trace in fewer["data"][:2]) == 200


def _until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_other_models_layers_are_read_once_with_progress_and_can_be_cancelled(
    tiny_folder, anchors, monkeypatch, raised
):
    monkeypatch.setattr(probes, "STRENGTHS", (1.0,))
    model = models.load(str(tiny_folder), "fp32")
    save(random_space(model, anchors), cached_folder(model))
    service = Service(str(tiny_folder), "fp32")
    assert "still loading" in raised(service.read_layers, DroError)
    service.start_loading()
    _until(lambda: service.stage.kind == "ready")
    assert service.layers is None and service.layers_wanted

    real, seen = layers.fit, []

    def slow(space, model, progress, checkpoint, prefixes):
        for k in range(500):
            progress("Reading layer", k / 500)
            seen.append(service.stage.share)
            time.sleep(0.01)
            checkpoint()

    monkeypatch.setattr(layers, "fit", slow)
    service.read_layers()
    _until(lambda: len(seen) > 5)
    assert not service.layers_wanted and seen[-1] > 0
    assert service.answer("q", "none", 2)["verdict"]  # visitors go first
    service.cancel_fit()
    _until(lambda: service.stage.kind == "ready")
    assert service.layers is None and len(seen) < 500

    monkeypatch.setattr(layers, "fit", real)
    service.read_layers()
    _until(lambda: service.layers is not None)
    assert layer_files.find(service.space, model) is not None
    again = Service(str(tiny_folder), "fp32")
    again.start_loading()
    _until(lambda: again.stage.kind == "ready")
    assert again.layers is not None and not again.layers_wanted
