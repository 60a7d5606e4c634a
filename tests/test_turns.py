"""Whose turn it is at the model."""

import threading
import time

from explorer.turns import Turns


def test_one_call_at_a_time():
    turns, inside, most = Turns(), [], []

    def call(kind):
        with getattr(turns, kind)():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=call, args=(k,)) for k in ["visitor", "worker"] * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 20 and max(most) == 1


def test_a_visitor_goes_before_the_worker_where_it_can_pause():
    turns, order = Turns(patience=60), []
    came = threading.Event()

    def visit():
        came.set()
        with turns.visitor():
            order.append("visitor")

    with turns.worker():
        thread = threading.Thread(target=visit)
        thread.start()
        came.wait(5)
        while not turns._visitors:
            time.sleep(0.001)
        order.append("step 1")
        turns.give_way()
        order.append("step 2")
    thread.join(5)
    assert order == ["step 1", "visitor", "step 2"]


def test_a_worker_that_waited_long_goes_before_visitors():
    turns, order, end = Turns(patience=0.05), [], threading.Event()

    def keep_visiting():
        while not end.is_set():
            with turns.visitor():
                time.sleep(0.002)

    crowd = [threading.Thread(target=keep_visiting) for _ in range(3)]
    for thread in crowd:
        thread.start()

    def work():
        with turns.worker():
            order.append("worked")

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(10)
    end.set()
    for thread in crowd:
        thread.join(5)
    assert order == ["worked"]


def test_giving_way_to_nobody_keeps_the_turn():
    turns = Turns()
    with turns.worker():
        turns.give_way()
        assert turns._busy


def test_an_error_inside_frees_the_turn():
    turns = Turns()
    for kind in ("visitor", "worker"):
        try:
            with getattr(turns, kind)():
                raise ValueError
        except ValueError:
            pass
        assert not turns._busy
