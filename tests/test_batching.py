"""Passes that fit: cut beforehand on a CPU, halved where a device refuses; nothing is lost or done twice."""

import pytest
import torch
from conftest import chat_model, pairs

from dro import batching, gradients, memory
from dro.batching import Room, passes, split
from dro.errors import ModelError
from dro.generate import Decoding, answers
from dro.prompts import HUMAN, SafetyPrompt
from dro.states import last_token_states, own_ids, packed_states, prefix_ids

SHORT = SafetyPrompt("short", HUMAN["short"])
QUERIES = pairs(6).texts


def refuse_above(most):
    """A device that has no memory for more than `most` tokens."""
    seen = []

    def run(rows, lengths):
        if sum(lengths[row] for row in rows) > most:
            raise torch.OutOfMemoryError("no memory")
        seen.append(rows)
        return rows

    return run, seen


@pytest.mark.parametrize("most", [9, 10, 25, 1000])
def test_refused_passes_are_halved_until_they_fit(most):
    lengths = [9, 1, 3, 7, 2, 5, 8, 4, 6]
    run, seen = refuse_above(most)
    room = Room(plain=45, training=45)
    done = [row for rows, _ in passes(lengths, room, lambda rows: run(rows, lengths)) for row in rows]
    assert sorted(done) == list(range(len(lengths))) and sum(map(len, seen)) == len(lengths)
    assert room.plain <= max(most, 45 if most > 45 else most)


def test_what_was_learnt_is_remembered():
    lengths, room = [4] * 10, Room(plain=40, training=40)
    run, seen = refuse_above(10)
    list(passes(lengths, room, lambda rows: run(rows, lengths)))
    before = len(seen)
    tried = []
    list(passes(lengths, room, lambda rows: tried.append(rows) or run(rows, lengths)))
    assert len(tried) == len(seen) - before


def test_a_single_item_that_does_not_fit_is_told():
    run, _ = refuse_above(3)
    with pytest.raises(ModelError, match="no memory for a pass of 5 tokens"):
        list(passes([5], Room(100, 100), lambda rows: run(rows, [5])))


def test_states_do_not_change_when_the_device_refuses(monkeypatch):
    model = chat_model()
    expected = last_token_states(model, SHORT, QUERIES)
    batching.room(model).plain = 10_000
    forward, refused = model.backbone.forward, []

    def small(*args, inputs_embeds, **options):
        if inputs_embeds.shape[1] > 150:
            refused.append(1)
            raise torch.OutOfMemoryError("no memory")
        return forward(*args, inputs_embeds=inputs_embeds, **options)

    monkeypatch.setattr(model.backbone, "forward", small)
    found = last_token_states(model, SHORT, QUERIES)
    assert refused and abs(found - expected).max() < 1e-4


def test_answers_do_not_change_when_the_device_refuses(monkeypatch):
    model = chat_model()
    decoding = Decoding(max_tokens=5)
    expected = answers(model, SHORT, QUERIES, decoding)
    forward, sizes = model.backbone.forward, []

    def small(*args, inputs_embeds, **options):
        sizes.append(inputs_embeds.shape[0])
        if inputs_embeds.shape[0] > 4:  # in the midst of answering
            raise torch.OutOfMemoryError("no memory")
        return forward(*args, inputs_embeds=inputs_embeds, **options)

    monkeypatch.setattr(model.backbone, "forward", small)
    assert answers(model, SHORT, QUERIES, decoding) == expected
    assert max(sizes) == len(QUERIES) and sizes.count(12) == sizes.count(6) == 1


def test_groups_are_cut_once_for_all_that_follow():
    tried = []

    def run(rows):
        tried.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("no memory")
        return len(rows)

    groups = [list(range(8)), list(range(8, 13))]
    assert [row for rows, _ in batching.halved(groups, run) for row in rows] == list(range(13))
    assert tried == [8, 4, 2, 2, 2, 2, 2, 2, 1]
    with pytest.raises(ModelError, match="no memory"):
        list(batching.halved([[0]], lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError())))


def step(model, room):
    ids, own = prefix_ids(model, SHORT), own_ids(model, SHORT, QUERIES)
    vectors = model.embed(ids.slot).clone().requires_grad_()

    class Loss:
        def __init__(self, states):
            # Rows depend on each other: parts by themselves would give another gradient.
            self.total = (states - states.mean(dim=0)).square().sum().sqrt()

    losses = gradients.backward(model, own, ids, vectors, Loss, room)
    return losses.total.item(), vectors.grad


@pytest.mark.parametrize("tokens", [1, 180, 260])
def test_a_step_in_parts_gives_the_same_loss_and_gradient(tiny, tokens):
    loss, gradient = step(tiny, Room(0, 1 << 30))
    parted, in_parts = step(tiny, Room(0, tokens))
    assert gradient.norm() > 0
    assert parted == pytest.approx(loss, rel=1e-5)
    assert (in_parts - gradient).norm() / gradient.norm() < 1e-4


def test_a_refused_step_is_taken_again_in_parts(tiny, monkeypatch):
    expected = step(tiny, Room(0, 1 << 30))
    calls = []

    def small(model, own, ids, vectors):
        calls.append(len(own))
        if len(own) > 4:
            raise torch.OutOfMemoryError("no memory")
        return packed_states(model, own, ids, vectors)

    monkeypatch.setattr(gradients, "packed_states", small)
    room = Room(0, 1 << 30)
    loss, gradient = step(tiny, room)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert (gradient - expected[1]).norm() / expected[1].norm() < 1e-4
    assert calls[0] == len(QUERIES) and max(calls[-3:]) <= 4
    again = len(calls)
    step(tiny, room)
    assert max(calls[again:]) <= 4


def test_a_step_for_which_one_query_is_too_much_is_told(tiny, monkeypatch):
    def none(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(gradients, "packed_states", none)
    with pytest.raises(ModelError, match="no memory"):
        step(tiny, Room(0, 1 << 30))


def test_parts_hold_every_row_in_order_and_keep_to_the_limit():
    assert split([10] * 9, shared=20, most=60) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert split([10, 90, 10, 10], shared=20, most=60) == [[0], [1], [2, 3]]
    assert split([5, 5], shared=20, most=1) == [[0], [1]] and split([], 3, 9) == []


def test_a_cpu_with_little_memory_trains_in_parts(monkeypatch):
    model = chat_model()
    monkeypatch.setattr(memory, "available", lambda: 300 * batching.training_bytes(model))
    assert batching.room(model).training == int(0.8 * 300)
    assert batching.room(model) is batching.room(model)
