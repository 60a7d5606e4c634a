"""Layers: the right states, pictures that neither swap nor flip, whole pairs in folds, one space's own."""

import json

import numpy as np
import pytest
import torch
from conftest import chat_model, random_space

from dro import layer_files, layers, models, probes, readable
from dro.cli import main
from dro.errors import StoreError
from dro.prompts import resolve
from dro.readable import CHANCE
from dro.space import cached_folder, save, shipped
from dro.states import PrefixCache, last_token_states, states_by_layer

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def few_strengths():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "STRENGTHS", (0.1, 1.0))
        yield


@pytest.fixture(scope="module")
def found(space, tiny, few_strengths):
    return layers.fit(space, tiny)


@pytest.mark.parametrize("name", ["none", "short"])
def test_every_layer_is_what_the_model_itself_gives(tiny, plain, anchors, name):
    prompt, queries = resolve(name, tiny), anchors.texts[:5]
    told = states_by_layer(tiny, prompt, queries, PrefixCache(tiny))
    assert told.shape == (5, tiny.model.config.num_hidden_layers + 1, tiny.d_model)
    for row, query in enumerate(queries):
        text = tiny.rendering.render(prompt.text, query)
        ids = torch.tensor([tiny.tokenizer(text, add_special_tokens=False).input_ids])
        with torch.no_grad():
            hidden = plain.model(ids, use_cache=False, output_hidden_states=True).hidden_states
        expected = np.stack([layer[0, -1].numpy() for layer in hidden])
        assert np.allclose(told[row], expected, atol=1e-4)
    assert np.array_equal(told[:, -1], last_token_states(tiny, prompt, queries, PrefixCache(tiny)))


def test_a_turned_and_mirrored_picture_is_laid_back_exactly():
    picture = rng.normal(size=(40, 2)) * [3, 1]
    swapped = picture[:, ::-1] * [1, -1]
    angle = np.array([[0.6, -0.8], [0.8, 0.6]])
    turns = layers.chained([swapped @ angle, swapped, picture])
    for each, turn in zip((swapped @ angle, swapped, picture), turns, strict=True):
        assert np.allclose(each @ turn, picture)
        assert np.allclose(turn @ turn.T, np.eye(2))  # distances within a layer stay


def test_neighbours_are_never_farther_apart_than_under_any_other_turn():
    pictures = [rng.normal(size=(30, 2)) for _ in range(4)]
    turned = [p @ t for p, t in zip(pictures, layers.chained(pictures), strict=True)]
    for picture, here, following in zip(pictures, turned, turned[1:], strict=False):
        for turn in np.linspace(0, 2 * np.pi, 50):
            for mirror in (1, -1):
                other = picture @ [
                    [np.cos(turn), -np.sin(turn)],
                    [mirror * np.sin(turn), mirror * np.cos(turn)],
                ]
                assert np.linalg.norm(here - following) <= np.linalg.norm(other - following) + 1e-9


def test_a_layer_without_extent_is_passed_over():
    picture = rng.normal(size=(10, 2))
    turns = layers.chained([picture * [1, -1], np.zeros((10, 2)), picture])
    assert np.allclose(picture * [1, -1] @ turns[0], picture)


def test_the_last_layer_is_the_space_itself(found, space):
    plane = space.anchors.coordinates[:, :2] - space.anchors.coordinates[:, :2].mean(axis=0)
    assert np.allclose(found.coordinates[-1] * found.spread[-1], plane, atol=1e-3)
    assert found.readings[-1].cosine == pytest.approx(1)
    health = {check["name"]: check for check in space.health}
    told = health["refusal AUC among harmful queries"]
    assert found.readings[-1].refusal.value == pytest.approx(told["value"], abs=1e-3)
    for name, each in found.readings[-1].by_prompt.items():
        assert each == pytest.approx(told["details"]["within"][name]["harmful"], abs=1e-3)


def test_nothing_is_readable_where_all_end_in_the_same_token(found, space):
    first = found.readings[0]
    assert first.harmfulness == first.refusal == CHANCE and first.cosine is None
    assert set(first.shifts.values()) == {0.0} and not found.coordinates[0].any()
    assert set(first.shifts) == set(space.anchors.conditions) - {"none"}
    assert all(value > 0 for value in found.readings[1].shifts.values())


def test_folds_never_split_a_pair(space, tiny, monkeypatch):
    """Labels that only a pair's other half gives away stay unreadable."""
    seen = []
    fit = probes.fit

    def spy(coordinates, targets, groups, seed=0):
        seen.append(groups)
        return fit(coordinates, targets, groups, seed)

    monkeypatch.setattr(probes, "fit", spy)
    monkeypatch.setattr(probes, "STRENGTHS", (1.0,))
    layers.fit(space, tiny)
    assert len(seen) == 2 * tiny.model.config.num_hidden_layers
    expected = np.tile(space.anchors.pair, len(space.anchors.conditions))
    assert all(np.array_equal(groups, expected) for groups in seen)


def test_the_auc_of_every_draw_is_that_of_its_rows():
    logits = np.round(rng.normal(size=30), 1)  # with ties
    rates = rng.uniform(size=30)
    counts = rng.integers(0, 4, size=(20, 30)).astype(float)
    told = readable._aucs(logits, rates, counts)
    for value, count in zip(told, counts.astype(int), strict=True):
        rows = np.repeat(np.arange(30), count)
        assert value == pytest.approx(probes.auc(logits[rows], rates[rows]))


def test_an_auc_within_a_prompt_is_blind_to_which_prompt_refuses():
    """A probe that only tells prompts apart ranks well over all rows, and not at all within one."""
    pair = np.tile(np.arange(60), 2)
    prompt = np.repeat([0.0, 1.0], 60)
    rates = (rng.uniform(size=120) < np.where(prompt == 1, 0.8, 0.2)).astype(float)
    groups = [np.arange(60), np.arange(60, 120)]
    told, each = readable.auc_among(prompt, rates, groups, pair)
    assert probes.auc(prompt, rates) > 0.7
    assert told.value == 0.5 and each == [0.5, 0.5]
    rare = np.zeros(120)
    assert readable.auc_among(prompt, rare, groups, pair) == (None, [None, None])


def test_intervals_hold_the_value_and_are_wider_for_fewer_pairs():
    logits, labels = rng.normal(size=200), np.tile([True, False], 100)
    few = readable.accuracy(logits[:40], labels[:40], np.repeat(np.arange(20), 2))
    many = readable.accuracy(np.tile(logits, 5), np.tile(labels, 5), np.repeat(np.arange(500), 2))
    assert few.low <= few.value <= few.high and few.high - few.low > 2 * (many.high - many.low)


def test_a_space_without_a_refusal_probe_has_layers_all_the_same(bare_space, tiny, few_strengths):
    told = layers.fit(bare_space, tiny)
    assert all(r.refusal is None and r.cosine is None for r in told.readings)
    assert not told.arrows.any() and told.readings[-1].harmfulness.value > 0


def test_it_tells_how_far_it_is_and_stops_when_asked(space, tiny):
    shares = []

    def stop():
        if len(shares) > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layers.fit(space, tiny, lambda _, share: shares.append(share), stop)
    assert shares == sorted(shares) and shares[-1] < 1


def test_saved_and_loaded_again(found, space, tmp_path):
    layer_files.save(found, tmp_path)
    again = layer_files.load(tmp_path, space)
    assert np.allclose(again.coordinates, found.coordinates, atol=2e-3)
    assert again.readings[-1].as_dict() == found.readings[-1].as_dict()
    assert again.provenance == found.provenance


def test_another_models_layers_are_refused(found, space, tmp_path, raised):
    layer_files.save(found, tmp_path)
    stranger = random_space(chat_model(num_hidden_layers=3), _anchors(space))
    object.__setattr__(stranger, "provenance", {**stranger.provenance, "revision": "another"})
    assert "belong to tiny-fp32" in raised(lambda: layer_files.load(tmp_path, stranger), StoreError)
    other = chat_model()
    other.revision = "fedcba"
    assert "belongs to tiny" in raised(lambda: layers.fit(space, other), StoreError)
    assert "belongs to tiny" in raised(lambda: layer_files.find(space, other), StoreError)


@pytest.mark.parametrize("name", [layer_files.ARRAYS_FILE, layer_files.DESCRIPTION_FILE])
def test_damage_is_told(found, space, tmp_path, raised, name):
    layer_files.save(found, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    assert "damaged" in raised(lambda: layer_files.load(tmp_path, space), StoreError)


def test_the_command_fits_once_and_remembers(tiny_folder, anchors, capsys, few_strengths, monkeypatch):
    model = models.load(str(tiny_folder), "fp32")
    save(random_space(model, anchors), cached_folder(model))
    command = ["layers", "--model", str(tiny_folder), "--precision", "fp32", "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["layer"] for each in told["layers"]] == [0, 1, 2]
    assert set(told["layers"][1]["refusal_auc"]) == {"value", "low", "high"}
    monkeypatch.setattr(layers, "fit", lambda *_: pytest.fail("fitted again"))
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert main(command[:-1]) == 0 and "largest shift" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_default_models_layers_are_shipped_and_small(precision):
    key = models.default_key(precision)
    space = shipped(key)
    told = layer_files.shipped(key, space)
    assert told is not None and len(told) == 25 and told.coordinates.shape[1] == 1200
    folder = layer_files.SHIPPED / key
    size = sum((folder / n).stat().st_size for n in (layer_files.ARRAYS_FILE, layer_files.DESCRIPTION_FILE))
    assert size < 300_000


def _anchors(space):
    from conftest import pairs

    return pairs(len(space.anchors.queries) // 2)
