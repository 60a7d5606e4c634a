"""Vectors of trained prompts: how far they went, and which tokens they are near."""

import numpy as np
import pytest

from dro import vectors
from dro.errors import DataError
from dro.prompts import SafetyPrompt
from dro.states import prefix_ids

WORDS = "You are careful."


def trained(model, change):
    start = vectors.start_vectors(model, SafetyPrompt("words", WORDS))
    return start, SafetyPrompt("run", WORDS, (start + change(start)).astype(np.float32))


def test_an_untrained_prompt_is_its_own_tokens(tiny):
    _, prompt = trained(tiny, np.zeros_like)
    found = vectors.describe(tiny, prompt)
    assert "".join(each.token for each in found) == WORDS
    assert all(each.drift == 0 and each.norm == each.start_norm > 0 for each in found)
    assert [each.nearest[0][0] for each in found] == [each.token for each in found]
    assert np.allclose([each.nearest[0][1] for each in found], 1, atol=1e-5)


def test_drift_and_norms_are_lengths_and_do_not_change_by_growing(tiny):
    start, prompt = trained(tiny, lambda start: start)  # twice as long, the same direction
    found = vectors.describe(tiny, prompt)
    assert np.allclose([each.drift for each in found], np.linalg.norm(start, axis=1), atol=1e-5)
    assert np.allclose([each.norm for each in found], 2 * np.linalg.norm(start, axis=1), atol=1e-5)
    assert [each.nearest[0][0] for each in found] == [each.token for each in found]


def test_the_nearest_are_those_of_the_whole_table_however_it_is_read(tiny, monkeypatch):
    draw = np.random.default_rng(0)
    _, prompt = trained(tiny, lambda start: draw.normal(size=start.shape))
    table = tiny.model.get_input_embeddings().weight[: len(tiny.tokenizer)].float().numpy()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    cosines = prompt.vectors @ unit.T / np.linalg.norm(prompt.vectors, axis=1, keepdims=True)
    expected = np.sort(cosines, axis=1)[:, ::-1][:, :3]
    names = [tiny.tokenizer.decode([int(row.argmax())]) for row in cosines]
    for rows in (7, 2, 10_000):
        monkeypatch.setattr(vectors, "_ROWS", rows)
        found = vectors.describe(tiny, prompt)
        assert np.allclose([[c for _, c in each.nearest] for each in found], expected, atol=1e-5)
        assert [each.nearest[0][0] for each in found] == names


def test_what_has_no_vectors_or_another_number_is_refused(tiny, raised):
    assert "no vectors" in raised(lambda: vectors.describe(tiny, SafetyPrompt("short", WORDS)), DataError)
    two = SafetyPrompt("run", WORDS, np.ones((2, tiny.d_model), np.float32))
    told = raised(lambda: vectors.describe(tiny, two), DataError)
    assert "2 vectors" in told and str(len(prefix_ids(tiny, two).slot)) in told


def test_a_vector_without_length_is_near_nothing(tiny):
    _, prompt = trained(tiny, lambda start: -start)
    assert [each.nearest[0][1] for each in vectors.describe(tiny, prompt)] == pytest.approx(
        [0.0] * len(prompt.vectors)
    )
