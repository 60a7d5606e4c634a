import pytest

from dro.compare import mcnemar
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
