"""A few cases of every fuzz target; `python -m tests.fuzz` runs a long campaign."""

import fuzz
import pytest


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_random_input_meets_errors_of_ours_alone(name):
    cases = 8 if name in ("questions", "damaged files") else 40
    count, _ = fuzz.campaign(name, cases, 1)
    assert count >= min(cases, 5)
