"""Memory as the system tells it: peaks count from their reset, freed memory does not hide the next call."""

import numpy as np
import pytest
import torch

from dro import memory
from dro.bench import measure

LINUX = memory.resident() is not None
pytestmark = pytest.mark.skipif(not LINUX, reason="needs /proc")
CPU = torch.device("cpu")
BLOCK = 200_000_000


def take():
    return float(np.ones(BLOCK // 8).sum())


def test_a_peak_counts_what_was_freed_again():
    assert memory.reset_peak()
    before = memory.resident()
    take()
    assert memory.peak() - before > 0.9 * BLOCK
    memory.reset_peak()
    assert memory.peak() - before < 0.5 * BLOCK


def test_a_second_call_is_not_smaller_for_what_the_first_left_behind():
    many = lambda: [bytearray(100_000) for _ in range(1000)]  # noqa: E731
    peaks = [measure.once(lambda: len(many()), CPU)[2] for _ in range(3)]
    assert min(peaks) > 0.8 * max(peaks) > 0.8 * 80_000_000


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available() == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 1_000_000


def test_without_proc_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available() is None and memory.resident() is None
    assert measure.once(take, CPU)[2] is None
