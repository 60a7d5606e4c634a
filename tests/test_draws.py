from dataclasses import replace

import numpy as np
import pytest
from conftest import pairs

from dro import data, recipes
from dro.draws import batch_rows
from dro.errors import DataError
from dro.recipes import Config

QUERIES = pairs(12).queries
CLASSES = Config(batch=6, batches="classes")
PAIRS = Config(batch=6, batches="pairs")


@pytest.mark.parametrize("config", [CLASSES, PAIRS])
def test_batches_hold_half_of_either_class_and_each_query_once_an_epoch(config):
    batches = [batch_rows(QUERIES, config, step) for step in range(4)]
    assert all([QUERIES[row].harmful for row in rows] == [True] * 3 + [False] * 3 for rows in batches)
    assert sorted(np.concatenate(batches)) == list(range(24))
    assert not np.array_equal(batches[0], batch_rows(QUERIES, config, 4))


@pytest.mark.parametrize("config", [CLASSES, PAIRS])
def test_batches_depend_on_step_and_seed_alone(config):
    assert np.array_equal(batch_rows(QUERIES, config, 7), batch_rows(QUERIES, config, 7))
    other = config.model_copy(update={"seed": 1})
    assert not np.array_equal(batch_rows(QUERIES, config, 7), batch_rows(QUERIES, other, 7))


@pytest.mark.parametrize("size", [2, 5, 6])
def test_pairs_stay_together_and_an_odd_batch_has_one_harmful_query_more(size):
    rows = batch_rows(QUERIES, PAIRS.model_copy(update={"batch": size}), 0)
    harmful, harmless = (
        [QUERIES[r].pair for r in rows if QUERIES[r].harmful is kind] for kind in (True, False)
    )
    assert len(rows) == size and harmless == harmful[: size // 2]


@pytest.mark.parametrize(
    "queries",
    [
        [replace(query, pair=-1) for query in QUERIES],
        [replace(query, pair=1) for query in QUERIES],
        QUERIES[:-1],
    ],
)
def test_without_a_look_alike_for_every_query_batches_are_drawn_by_class(queries):
    assert np.array_equal(batch_rows(queries, PAIRS, 1), batch_rows(queries, CLASSES, 1))


@pytest.mark.parametrize("config", [CLASSES, PAIRS])
def test_a_class_with_too_few_queries_for_its_half_is_told(config):
    with pytest.raises(DataError, match="smaller batch"):
        batch_rows(pairs(2).queries, config, 0)


def test_the_bundled_training_sets_come_in_pairs():
    queries = recipes.training_set(recipes.config("best")).queries
    rows = batch_rows(queries, PAIRS, 0)
    first, last = queries[rows[0]], queries[rows[3]]
    assert first.pair == last.pair and first.harmful and not last.harmful
    assert len({query.pair for query in queries}) == len(queries) // 2
    assert len(queries) == len(data.bundled("anchors")) + len(data.bundled("train"))
