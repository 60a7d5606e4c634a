import numpy as np
import pytest

from dro.compare import mcnemar, mean_with_interval, paired
from dro.errors import DataError


def test_counts_and_the_exact_probability():
    first = [True] * 8 + [False] * 2 + [True] * 5 + [False] * 5
    second = [False] * 8 + [True] * 2 + [True] * 5 + [False] * 5
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second, found.both, found.neither, found.n) == (8, 2, 5, 5, 20)
    # Two-sided binomial of 8 in 10: 2 · (45 + 10 + 1) / 1024.
    assert found.p == pytest.approx(112 / 1024)


def test_prompts_that_never_differ_do_not_differ():
    assert mcnemar([True, False], [True, False]).p == 1.0


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_other_queries_cannot_be_compared(first, second):
    with pytest.raises(DataError, match="Compare the same queries"):
        mcnemar(first, second)


def test_a_paired_difference_has_bonett_and_prices_interval():
    first = [True] * 10 + [False] * 90
    second = [False] * 2 + [True] * 8 + [True] * 20 + [False] * 70
    found = paired(first, second)
    # 20 gained, 2 lost of 100: (21 − 3) / 102 ± 1.96 · sqrt((24/102 − (18/102)²) / 102).
    assert found.mean == pytest.approx(0.18) and found.first == pytest.approx(0.10)
    half = 1.959964 * ((24 / 102 - (18 / 102) ** 2) / 102) ** 0.5
    assert (found.low, found.high) == pytest.approx((18 / 102 - half, 18 / 102 + half))


def test_prompts_that_never_differ_still_have_an_interval():
    found = paired([True, False] * 20, [True, False] * 20)
    assert found.mean == 0 and found.low < 0 < found.high


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    numbers = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        first = numbers.random(60) < 0.6
        second = np.where(numbers.random(60) < 0.3, numbers.random(60) < 0.8, first)
        found = paired(first.tolist(), second.tolist())
        held += found.low <= 0.3 * (0.8 - 0.6) <= found.high
    assert 0.92 <= held / 400 <= 0.99


def test_means_have_students_interval():
    mean, low, high = mean_with_interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(4.302653 / 3**0.5) and low < mean
    with pytest.raises(DataError, match="at least two"):
        mean_with_interval([1.0])
