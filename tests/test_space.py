"""A space is frozen, written whole, and belongs to one model."""

import json

import numpy as np
import pytest
from conftest import chat_model
from safetensors.numpy import load_file, save_file

from dro import space as spaces
from dro.errors import DroError, StoreError
from dro.prompts import resolve
from dro.states import PrefixCache, last_token_states


@pytest.fixture
def folder(space, tmp_path):
    spaces.save(space, tmp_path / "space")
    return tmp_path / "space"


def test_a_saved_space_places_queries_as_before(tiny, space, folder):
    loaded = spaces.load(folder)
    prompts = [resolve(n, tiny) for n in ("none", "short")]
    before = spaces.locate(space, tiny, "How to open a door?", prompts)
    assert spaces.locate(loaded, tiny, "How to open a door?", prompts) == before
    assert loaded.name == space.name and loaded.provenance == json.loads(json.dumps(dict(space.provenance)))
    assert [dict(c) for c in loaded.health] == json.loads(json.dumps(list(space.health)))


def test_the_anchors_come_back(space, folder):
    loaded = spaces.load(folder).anchors
    assert loaded.queries == space.anchors.queries and loaded.conditions == space.anchors.conditions
    assert np.array_equal(loaded.harmful, space.anchors.harmful) and loaded.harmful.dtype == bool
    assert np.array_equal(loaded.pair, space.anchors.pair)
    for name in ("coordinates", "refusal_rate", "residual"):
        assert np.allclose(getattr(loaded, name), getattr(space.anchors, name), rtol=1e-5, atol=1e-6)


def test_points_are_the_probes_on_the_projected_states(tiny, space):
    prompts = [resolve(n, tiny) for n in ("short", "none")]
    points = spaces.locate(space, tiny, "Hello", prompts, PrefixCache(tiny))
    assert [p.prompt for p in points] == ["short", "none"]
    for prompt, point in zip(prompts, points, strict=True):
        g = (last_token_states(tiny, prompt, ["Hello"])[0] - space.projection.mean) @ space.projection.basis
        assert point.coordinates == pytest.approx(g, abs=1e-4)
        assert point.refusal_logit == pytest.approx(g @ space.refusal.weight + space.refusal.bias, abs=1e-4)
        assert point.harmfulness_logit == pytest.approx(
            g @ space.harmfulness.weight + space.harmfulness.bias, abs=1e-4
        )
        assert point.refusal_probability == pytest.approx(1 / (1 + np.exp(-point.refusal_logit)))


def test_the_anchors_lie_where_they_were_when_located_anew(tiny, space):
    rows = space.anchors.rows("mistral")
    query = space.anchors.queries[3]
    (point,) = spaces.locate(space, tiny, query, [resolve("mistral", tiny)])
    assert point.coordinates == pytest.approx(space.anchors.coordinates[rows][3], abs=1e-3)


def test_a_space_without_a_refusal_probe_says_why(tiny, bare_space, tmp_path):
    spaces.save(bare_space, tmp_path)
    loaded = spaces.load(tmp_path)
    assert loaded.refusal is None and "refused 0.0" in loaded.why_no_refusal
    (point,) = spaces.locate(loaded, tiny, "Hello", [resolve("none", tiny)])
    assert point.refusal_logit is None and point.as_dict()["refusal_probability"] is None
    with pytest.raises(StoreError, match=r"refused 0\.0"):
        loaded.need_refusal()


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"revision": "fedcba9876543210"}, {"precision": "bf16"}]
)
def test_another_model_is_refused(space, folder, change):
    other = chat_model()
    for name, value in change.items():
        setattr(other, name, value)
    for made in (space, spaces.load(folder)):
        with pytest.raises(StoreError, match="belongs to tiny"):
            spaces.locate(made, other, "Hello", [resolve("none", other)])
    with pytest.raises(StoreError):
        spaces.find(other, folder)


def test_the_name_changes_with_whatever_it_was_fitted_from(space):
    from dataclasses import replace

    changed = [
        replace(space, provenance={**space.provenance, key: value})
        for key, value in {"seed": 1, "prompts": {}, "anchors": {}, "rendering": ""}.items()
    ]
    assert len({s.name for s in (space, *changed)}) == 5
    assert space.name.startswith("tiny-fp32-m4-")


def damage(folder, how):
    arrays, told = folder / spaces.ARRAYS_FILE, folder / spaces.DESCRIPTION_FILE
    content = json.loads(told.read_text())
    if how == "arrays cut":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif how == "arrays garbage":
        arrays.write_bytes(b"\xff" * 50)
    elif how == "arrays gone":
        arrays.unlink()
    elif how == "array missing":
        kept = load_file(arrays)
        save_file({k: v for k, v in kept.items() if k != "basis"}, arrays)
    elif how == "rows missing":
        save_file({**load_file(arrays), "anchor_coordinates": np.zeros((3, 4), np.float32)}, arrays)
    elif how == "other width":
        save_file({**load_file(arrays), "mean": np.zeros(3)}, arrays)
    elif how == "description cut":
        told.write_text(told.read_text()[:200])
    elif how == "description empty":
        told.write_text("{}")
    elif how == "other format":
        told.write_text(json.dumps({**content, "format": 99}))
    elif how == "no harmfulness":
        told.write_text(json.dumps({**content, "harmfulness": None}))


DAMAGE = [
    "arrays cut",
    "arrays garbage",
    "arrays gone",
    "array missing",
    "rows missing",
    "other width",
    "description cut",
    "description empty",
    "other format",
    "no harmfulness",
]


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_of_any_kind_is_an_error_of_ours(folder, how):
    damage(folder, how)
    with pytest.raises(DroError):
        spaces.load(folder)


@pytest.mark.parametrize("how", [h for h in DAMAGE if h not in ("rows missing", "other width")])
def test_damage_is_named_with_its_folder(folder, how, raised):
    damage(folder, how)
    assert str(folder) in raised(lambda: spaces.load(folder), StoreError)


@pytest.mark.parametrize("how", ["rows missing", "other width"])
def test_parts_that_do_not_fit_together_are_named_with_their_folder(folder, how, raised):
    damage(folder, how)
    assert str(folder) in raised(lambda: spaces.load(folder), DroError)


def test_a_folder_without_a_description_is_no_space(tmp_path, raised):
    message = raised(lambda: spaces.load(tmp_path), StoreError)
    assert "holds no space" in message and "python -m dro fit" in message


def test_a_save_that_was_killed_before_the_description_is_no_space(space, tmp_path, monkeypatch):
    monkeypatch.setattr(spaces, "write_json", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        spaces.save(space, tmp_path)
    with pytest.raises(StoreError, match="holds no space"):
        spaces.load(tmp_path)


def test_a_space_is_found_where_it_was_cached_or_shipped(tiny, space, tmp_path, monkeypatch):
    monkeypatch.setattr(spaces, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(StoreError, match="python -m dro fit --model tiny"):
        spaces.find(tiny)
    spaces.save(space, spaces.cached_folder(tiny))
    assert spaces.find(tiny).name == space.name
    spaces.save(space, spaces.SHIPPED / tiny.key)
    (spaces.cached_folder(tiny) / spaces.DESCRIPTION_FILE).unlink()
    assert spaces.find(tiny).name == space.name


def test_placing_states_never_changes_the_space(space):
    before = space.projection.basis.tobytes(), space.harmfulness.weight.tobytes()
    space.points("x", np.random.default_rng(0).normal(size=(9, space.projection.d_model)))
    assert (space.projection.basis.tobytes(), space.harmfulness.weight.tobytes()) == before
    with pytest.raises(AttributeError):
        space.projection = None


def test_offsets_turn_the_probes_into_functions_of_the_state(space):
    states = np.random.default_rng(0).normal(size=(5, space.projection.d_model))
    coordinates = space.projection.coordinates(states)
    for probe, offset in zip((space.refusal, space.harmfulness), space.offsets(), strict=True):
        ours = states @ space.projection.basis @ probe.weight + offset
        assert np.allclose(ours, probe.logits(coordinates), atol=1e-9)
