"""The desk: questions of several visitors in one pass, in turn, and a line with an end."""

import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from serving import tiny_service

from dro.prompts import SafetyPrompt, resolve
from dro.space import locate
from explorer.desk import PASS_TOKENS, ROWS, Desk, FullError, Ticket
from explorer.limits import CLASSROOM
from explorer.turns import Turns, Visitor

NONE = SafetyPrompt("none", None)


class Recorder:
    """Work that notes what came together."""

    def __init__(self):
        self.passes, self.batches, self.tokens = [], [], 0
        self.fails = ()

    def place(self, asked):
        self.passes.append([query for _, query in asked])
        if any(query in self.fails for _, query in asked):
            raise ValueError("poison")
        return [f"at {query}" for _, query in asked]

    def write(self, asked, longest, seed, wanted):
        self.batches.append([query for _, query in asked])
        told = [("", False)] * len(asked)
        for _ in range(max(longest)):
            self.tokens += 1
            for row, (_, query) in enumerate(asked):
                if told[row][1]:
                    continue
                said = told[row][0] + query[0]
                told[row] = (said, len(said) == longest[row] or not wanted(row))
            yield list(told)
            if all(ended for _, ended in told):
                return


def ticket(work, query="q", host="a", session="1", longest=0, length=10, prompts=1, seed=None):
    return Ticket(work, Visitor(host, session), query, [NONE] * prompts, [length] * prompts, longest, seed)


@pytest.fixture
def held():
    """A desk whose thread cannot get to the model until the worker lets go."""
    turns = Turns(patience=60)
    desk = Desk(turns, most=10, each=4)
    with ExitStack() as stack:
        stack.enter_context(turns.worker())
        turns.let_go = stack.close
        yield desk, turns


def finish(desk, tickets):
    for each in tickets:
        list(desk.follow(each))


def join(desk, turns, tickets):
    """All of them while the desk waits for its turn; it has none of them yet."""
    first, *rest = tickets
    desk.join(first)
    while not turns._visitors:
        time.sleep(0.001)
    for each in rest:
        desk.join(each)


def test_questions_of_several_visitors_share_a_pass(held):
    desk, turns = held
    work = Recorder()
    tickets = [ticket(work, f"q{n}", host=f"h{n}") for n in range(5)]
    join(desk, turns, tickets)
    turns.let_go()
    finish(desk, tickets)
    assert work.passes == [["q0", "q1", "q2", "q3", "q4"]]
    assert [each.told for each in tickets] == [[f"at q{n}"] for n in range(5)]


def test_one_visitors_many_do_not_hold_up_anothers_one(held):
    desk, turns = held
    work = Recorder()
    many = [ticket(work, f"m{n}", host="a", length=PASS_TOKENS) for n in range(4)]
    one = ticket(work, "one", host="b", length=PASS_TOKENS)
    join(desk, turns, [*many, one])
    assert desk.line(one)[0] == 1 and desk.line(many[3])[0] == 4
    turns.let_go()
    finish(desk, [*many, one])
    assert [each[0] for each in work.passes].index("one") <= 1


def test_many_pages_of_one_address_count_as_one_beside_another_address():
    desk = Desk(Turns())
    work = Recorder()
    crowd = [ticket(work, f"c{n}", host="a", session=str(n)) for n in range(6)]
    other = ticket(work, "other", host="b")
    order = desk._in_order([*crowd, other])
    assert order.index(other) <= 1
    desk._note(crowd[0])
    assert desk._in_order([*crowd[:1], other])[0] is other  # who was served longest ago comes first


def test_a_question_under_many_prompts_is_placed_in_several_passes(held):
    desk, turns = held
    work = Recorder()
    long = ticket(work, "long", length=PASS_TOKENS // 2, prompts=5)
    join(desk, turns, [long])
    turns.let_go()
    finish(desk, [long])
    assert [len(each) for each in work.passes] == [2, 2, 1] and len(long.told) == 5


def test_answers_of_several_visitors_are_written_together_and_end_by_themselves(held):
    desk, turns = held
    work = Recorder()
    tickets = [ticket(work, "abc"[n], host=str(n), longest=2 + n) for n in range(3)]
    join(desk, turns, tickets)
    turns.let_go()
    finish(desk, tickets)
    assert work.batches == [["a", "b", "c"]] and work.tokens == 4
    assert [each.told for each in tickets] == [[("aa", True)], [("bbb", True)], [("cccc", True)]]


def test_seeds_are_not_mixed_and_a_batch_has_an_end(held):
    desk, turns = held
    work = Recorder()
    tickets = [ticket(work, "a", host="1", longest=2), ticket(work, "b", host="2", longest=2, seed=1),
               ticket(work, "c", host="3", longest=2, prompts=ROWS)]  # fmt: skip
    join(desk, turns, tickets)
    turns.let_go()
    finish(desk, tickets)
    assert sorted(map(len, work.batches)) == [1, 1, ROWS]


def test_a_second_batch_is_begun_for_who_has_waited_long(held, monkeypatch):
    from explorer import desk as module

    desk, turns = held
    work = Recorder()
    monkeypatch.setattr(module, "SLICE", 0.0)
    long, short = ticket(work, "a", host="1", longest=4000), ticket(work, "b", host="2", longest=2, seed=1)
    for after, most in ((1e9, 1), (0.0, 2)):
        monkeypatch.setattr(module, "SECOND_AFTER", after)
        if after:
            join(desk, turns, [long, short])
            turns.let_go()
            while work.tokens < 20:
                time.sleep(0.001)
            assert len(work.batches) == most and not short.begun
    finish(desk, [short])
    assert len(work.batches) == 2 and not long.over
    desk.leave(long)


def test_a_full_line_says_when_to_come_back(held):
    desk, turns = held
    work = Recorder()
    join(desk, turns, [ticket(work, host=str(n)) for n in range(10)])
    with pytest.raises(FullError, match=r"10 questions are waiting already\. Come back in about \d+ s\."):
        desk.join(ticket(work, host="late"))
    assert len(desk) == 10


def test_one_visitor_has_a_share_of_the_line(held):
    desk, turns = held
    work = Recorder()
    join(desk, turns, [ticket(work) for _ in range(4)])
    with pytest.raises(FullError, match="4 questions of yours"):
        desk.join(ticket(work))
    desk.join(ticket(work, session="2"))


def test_who_stops_following_leaves_the_line_and_what_is_written_ends(held):
    desk, turns = held
    work = Recorder()
    gone, writing = ticket(work, "gone"), ticket(work, "writing", host="b", longest=10_000)
    join(desk, turns, [gone, writing])
    waiting = desk.follow(gone, every=0.01)
    next(waiting)
    waiting.close()
    assert gone.over and len(desk) == 1
    turns.let_go()
    following = desk.follow(writing)
    while not writing.told or not writing.told[0][0]:
        next(following)
    following.close()
    deadline = time.monotonic() + 10
    while desk._batches and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not desk._batches and work.tokens < 10_000 and not work.passes


def test_nobody_fails_for_somebody_elses_question(held):
    desk, turns = held
    work = Recorder()
    work.fails = ("bad",)
    good, bad, also = (ticket(work, q, host=q) for q in ("good", "bad", "also"))
    join(desk, turns, [good, bad, also])
    turns.let_go()
    finish(desk, [good, also])
    assert good.told == ["at good"] and also.told == ["at also"]
    with pytest.raises(ValueError, match="poison"):
        finish(desk, [bad])


def test_a_worker_gets_in_between_two_rounds_when_it_has_waited_long_and_no_sooner(held):
    desk, turns = held
    work = Recorder()
    turns._patience = 0.3
    long = ticket(work, "a", longest=10**9)
    join(desk, turns, [long])
    began, waited = time.monotonic(), []

    def work_now():
        with turns.worker():
            waited.append(time.monotonic() - began)

    worker = threading.Thread(target=work_now)
    turns.let_go()
    while not work.tokens:
        time.sleep(0.001)
    worker.start()
    worker.join(20)
    desk.leave(long)
    assert waited and waited[0] >= 0.3 and not long.error


def test_a_line_is_told_in_words_and_the_thread_ends_when_nobody_asks(held, monkeypatch):
    from explorer import desk as module

    desk, turns = held
    work = Recorder()
    tickets = [ticket(work, host=str(n)) for n in range(3)]
    join(desk, turns, tickets)
    before, seconds = desk.line(tickets[2])
    assert before == 2 and seconds >= 1
    assert module.waiting_text(before, seconds) == f"2 before you, about {seconds:.0f} s"
    monkeypatch.setattr(module, "_IDLE", 0.05)
    turns.let_go()
    finish(desk, tickets)
    deadline = time.monotonic() + 15
    while desk._thread and time.monotonic() < deadline:
        time.sleep(0.02)
    assert desk._thread is None
    late = desk.join(ticket(work))
    finish(desk, [late])


@pytest.fixture
def service(tiny_folder, anchors):
    return tiny_service(tiny_folder, anchors, CLASSROOM)


def test_a_crowd_gets_the_places_and_answers_it_would_get_alone(service):
    """Thirty threads at once, a run training: nobody gets anybody else's, and nobody gets none."""
    queries = [f"How do I fold map number {n} of the old town{'!' * (n % 5)}?" for n in range(30)]
    names = ["none", "short", "template"]
    loaded = service._loading.loaded
    prompts = [resolve(name, loaded.model) for name in names]
    alone = [[p.coordinates for p in locate(loaded.space, loaded.model, q, prompts)] for q in queries]
    said = [service.answer(q, "short", 8)["answer"] for q in queries[::5]]
    run, key = service.start_run(service.configuration("quick", steps=60, batch=4), "quick")
    found, answered, wrong = [None] * 30, [None] * 30, []

    def visit(number):
        try:
            told = service.locate(queries[number], names)
            found[number] = [tuple(point["coordinates"]) for point in told["points"]]
            if number % 5 == 0:
                answered[number] = service.answer(queries[number], "short", 8)["answer"]
        except Exception as error:
            wrong.append(error)

    visitors = iter(Visitor(f"10.0.0.{n}", str(n)) for n in range(10_000))
    service._visitor = lambda: next(visitors)
    threads = [threading.Thread(target=visit, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    service.stop_run(run.name, key)
    assert not wrong
    spread = np.sqrt(loaded.space.anchors.coordinates.var(axis=0).sum())
    assert np.abs(np.array(found) - np.array(alone)).max() < 0.01 * spread
    assert [a for a in answered if a is not None] == said


def test_a_model_that_was_changed_meanwhile_is_told(service, raised):
    from dro.errors import DroError

    with service._turns.worker():
        ticket = service.place("How do I fold a map?", ["none"])
        loaded, service._loading.loaded = service._loading.loaded, None
    assert "changed meanwhile" in raised(lambda: list(service.lines(ticket)), DroError)
    service._loading.loaded = loaded
