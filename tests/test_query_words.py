"""The hard training pairs: words that give the class away elsewhere say little about them."""

from collections.abc import Callable

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import MultinomialNB

from dro import data
from dro.data import Query
from tests.test_query_sets import TRAIN_HARD_FROM


def _word_auc(learnt: list[Query], asked: list[Query]) -> float:
    """AUC, harmful against harmless, of a naive Bayes model of the words of `learnt`, on `asked`."""
    counts = CountVectorizer(token_pattern=r"[\w']+").fit([q.text for q in learnt])
    model = MultinomialNB().fit(counts.transform([q.text for q in learnt]), [q.harmful for q in learnt])
    odds = model.predict_log_proba(counts.transform([q.text for q in asked])) @ np.array([-1.0, 1.0])
    return float(roc_auc_score([q.harmful for q in asked], odds))


def _train(wanted: Callable[[int], bool]) -> list[Query]:
    return [query for query in data.bundled("train").queries if wanted(query.pair)]


def test_words_that_tell_the_plain_pairs_apart_fail_on_the_hard_ones():
    plain = _word_auc(
        _train(lambda pair: pair < TRAIN_HARD_FROM and pair % 5 > 0),
        _train(lambda pair: pair < TRAIN_HARD_FROM and pair % 5 == 0),
    )
    learnt = _train(lambda pair: pair < TRAIN_HARD_FROM)
    assert plain > 0.9
    assert _word_auc(learnt, _train(lambda pair: pair >= TRAIN_HARD_FROM)) < 0.75
    assert _word_auc(learnt, list(data.bundled("subtle").queries)) < 0.75
