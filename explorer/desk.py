"""The desk: visitors' questions wait here, and go through the model together.

Reading the weights is what takes time, so queries of several visitors are placed in one pass and answers
to several visitors are written in one batch. Who was served longest ago comes first, by address and then
by page, so that many questions of one visitor do not hold up one of another's. The line is bounded: who
comes when it is full is told when to come back.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dro.errors import DroError
from dro.prompts import SafetyPrompt
from explorer import text
from explorer.turns import Turns, Visitor

PASS_TOKENS = 768
"""Own tokens of one pass that places queries, where there is a choice."""
ROWS, ROWS_TOKENS = 32, 2048
"""Answers that are written together at most, and the tokens that they may begin with."""
BATCHES, SECOND_AFTER = 2, 8.0
"""Batches of answers that are written by turns. Two share the time that one would have, so the second is
begun only for who has waited so many seconds: behind a long answer, not behind a short one."""
SLICE = 1.0
"""Seconds of one turn at the model while answers are written."""
PATIENCE = 180.0
"""Seconds after which nobody waits any longer."""
_IDLE = 10.0
"""Seconds without a question after which the thread ends; the next question begins another."""


class FullError(DroError):
    """The line is full; the message says when to come back."""


class Work(Protocol):
    """What the desk asks of the model; all of it is called with the turn."""

    def place(self, asked: Sequence[tuple[SafetyPrompt, str]]) -> Sequence[Any]:
        """A result for each (prompt, query), in one pass."""

    def write(
        self, asked: Sequence[tuple[SafetyPrompt, str]], longest: Sequence[int], seed: int | None,
        wanted: Callable[[int], bool],
    ) -> Iterator[list[tuple[str, bool]]]:  # fmt: skip
        """Answers that grow by a token each: (text so far, ended) for each pair."""


@dataclass(eq=False)
class Ticket:
    """One question under one or more prompts, waiting or being worked on.

    lengths: own tokens of the query under each prompt. longest: tokens of the answers; 0: only to be placed.
    told: results so far, one for each prompt; version grows with them.
    """

    work: Work
    visitor: Visitor
    query: str
    prompts: Sequence[SafetyPrompt]
    lengths: Sequence[int]
    longest: int = 0
    seed: int | None = None
    told: list[Any] = field(default_factory=list)
    next: int = 0
    version: int = 0
    over: bool = False
    begun: bool = False
    joined: float = 0.0
    error: Exception | None = None
    wanted: Callable[[], bool] = lambda: True


class Desk:
    """Waiting questions of all visitors, and the thread that takes them to the model.

    most, each: questions that wait in all, and of one visitor.
    """

    def __init__(self, turns: Turns, most: int = 64, each: int = 16) -> None:
        self._turns, self._most, self._each = turns, most, each
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._batches: list[_Batch] = []
        self._thread: threading.Thread | None = None
        self._served: dict[object, int] = {}
        self._count = 0
        self._per_token, self._per_batch = 0.01, 4.0
        """Seconds that placing a token takes, and that a batch of answers takes; learnt."""

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, ticket: Ticket) -> Ticket:
        """Put a question into the line; FullError where there is no room."""
        with self._changed:
            if len(self._waiting) >= self._most:
                raise FullError(
                    f"{len(self._waiting)} questions are waiting already.",
                    f"Come back in about {self._seconds(ticket, self._waiting):.0f} s.",
                )
            if sum(other.visitor == ticket.visitor for other in self._waiting) >= self._each:
                raise FullError(f"{self._each} questions of yours are waiting.", "Wait for their answers.")
            ticket.joined = time.monotonic()
            self._waiting.append(ticket)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="desk", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for this question any more; what is being written of it ends at the next token."""
        with self._changed:
            ticket.over = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self._changed.notify_all()

    def line(self, ticket: Ticket) -> tuple[int, float]:
        """Questions before this one, and seconds until it is likely to be served."""
        with self._changed:
            order = self._in_order(self._waiting)
            before = order[: order.index(ticket)] if ticket in order else []
            return len(before), self._seconds(ticket, before)

    def follow(self, ticket: Ticket, every: float = 0.5) -> Iterator[Ticket]:
        """The ticket whenever it has changed, and every so many seconds while it waits; until it is over.

        Raises what went wrong. Whoever stops following leaves the line.
        """
        began, seen = time.monotonic(), [0]
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: ticket.over or ticket.version != seen[0], every)
                    seen[0], over = ticket.version, ticket.over
                if ticket.error is not None:
                    raise ticket.error
                yield ticket
                if over:
                    return
                if time.monotonic() - began > PATIENCE:
                    raise FullError("The model did not get to it in time.", "Ask again in a few minutes.")
        finally:
            self.leave(ticket)

    # Order ---------------------------------------------------------------------------------------------

    def _in_order(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """As they will be served: round by round, first by address, then by page, then as they came."""
        turn: dict[object, int] = {}
        keyed = []
        for number, ticket in enumerate(tickets):
            place = turn[ticket.visitor] = turn.get(ticket.visitor, 0) + 1
            last = (self._served.get(ticket.visitor.host, 0), self._served.get(ticket.visitor, 0))
            keyed.append((place, last, number, ticket))
        hosts: dict[object, int] = {}
        ordered = []
        for place, last, number, ticket in sorted(keyed, key=lambda each: each[:3]):
            nth = hosts[ticket.visitor.host] = hosts.get(ticket.visitor.host, 0) + 1
            ordered.append((nth, last[0], place, last[1], number, ticket))
        return [each[-1] for each in sorted(ordered, key=lambda each: each[:-1])]

    def _note(self, ticket: Ticket) -> None:
        self._count += 1
        self._served[ticket.visitor] = self._served[ticket.visitor.host] = self._count
        if len(self._served) > 4096:  # those who were served longest ago may be forgotten
            kept = sorted(self._served, key=self._served.__getitem__)[2048:]
            self._served = {key: self._served[key] for key in kept}

    def _seconds(self, ticket: Ticket, before: Sequence[Ticket]) -> float:
        tokens = sum(sum(other.lengths) for other in before if not other.longest)
        rows = sum(len(other.prompts) for other in before if other.longest)
        found = self._per_token * (tokens + sum(ticket.lengths))
        if ticket.longest:
            found += self._per_batch * (len(self._batches) / BATCHES + rows // ROWS)
        return max(1.0, math.ceil(found))

    # The thread ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while True:
                with self._changed:
                    if not self._changed.wait_for(lambda: self._waiting or self._batches, _IDLE):
                        self._thread = None
                        return
                with self._turns.visitor():
                    # Kept while there are questions: between two turns a worker would slip in each time.
                    while (self._waiting or self._batches) and not self._turns.worker_is_due():
                        self._place()
                        self._write()
        except BaseException as error:
            # A fault of the desk itself: nobody must wait for a thread that is no more.
            with self._changed:
                told, self._thread = [*self._waiting, *(t for b in self._batches for t, _ in b.chosen)], None
                self._waiting, self._batches = [], []
            for ticket in told:
                self._fail(ticket, RuntimeError(f"the desk failed: {type(error).__name__}"))
            raise

    def _place(self) -> None:
        """One pass: as many (query, prompt) pairs as fit, from the head of the line."""
        began, tokens = time.monotonic(), 0
        chosen: list[tuple[Ticket, int]] = []
        with self._changed:
            for ticket in self._in_order([t for t in self._waiting if not t.longest]):
                if chosen and chosen[0][0].work is not ticket.work:
                    continue  # of a model that was changed meanwhile
                ticket.begun = True
                while ticket.next < len(ticket.prompts):
                    length = ticket.lengths[ticket.next]
                    if chosen and tokens + length > PASS_TOKENS:
                        break
                    chosen.append((ticket, ticket.next))
                    tokens += length
                    ticket.next += 1
                if ticket.next < len(ticket.prompts):
                    break
                self._waiting.remove(ticket)
                self._note(ticket)
        if not chosen:
            return
        self._guarded(chosen, self._place_all)
        self._per_token += 0.2 * ((time.monotonic() - began) / tokens - self._per_token)

    def _place_all(self, chosen: Sequence[tuple[Ticket, int]]) -> None:
        found = chosen[0][0].work.place([(t.prompts[place], t.query) for t, place in chosen])
        with self._changed:
            for (ticket, _), result in zip(chosen, found, strict=True):
                ticket.told.append(result)
                ticket.version += 1
                ticket.over |= len(ticket.told) == len(ticket.prompts)
            self._changed.notify_all()

    def _write(self) -> None:
        """A slice of every batch of answers that is being written, and a new one where there is room."""
        longest = max((time.monotonic() - t.joined for t in list(self._waiting) if t.longest), default=0.0)
        if not self._batches or (len(self._batches) < BATCHES and longest > SECOND_AFTER):
            self._begin()
        for batch in list(self._batches):
            until = time.monotonic() + SLICE / len(self._batches)
            self._guarded(batch.chosen, lambda _, batch=batch, until=until: self._advance(batch, until))
            if batch.ended:
                self._batches.remove(batch)

    def _begin(self) -> None:
        chosen: list[tuple[Ticket, int]] = []
        tokens = 0
        with self._changed:
            for ticket in self._in_order([t for t in self._waiting if t.longest]):
                first = chosen[0][0] if chosen else ticket
                more = sum(ticket.lengths)
                if chosen and (len(chosen) + len(ticket.prompts) > ROWS or tokens + more > ROWS_TOKENS):
                    break
                if ticket.seed != first.seed or ticket.work is not first.work:
                    continue
                tokens += more
                chosen += [(ticket, place) for place in range(len(ticket.prompts))]
                ticket.begun, ticket.told = True, [("", False)] * len(ticket.prompts)
                self._waiting.remove(ticket)
                self._note(ticket)
        if chosen:
            self._batches.append(_Batch(chosen))

    def _advance(self, batch: _Batch, until: float) -> None:
        while not batch.ended:
            told = batch.step()
            with self._changed:
                for (ticket, place), (said, ended) in zip(batch.chosen, told, strict=True):
                    ticket.told[place] = (said, ended)
                for ticket in {ticket for ticket, _ in batch.chosen}:
                    ticket.version += 1
                    ticket.over |= batch.ended or all(ended for _, ended in ticket.told)
                self._changed.notify_all()
            if time.monotonic() > until:
                break
        if batch.ended:
            self._per_batch += 0.3 * (time.monotonic() - batch.began - self._per_batch)

    def _guarded(self, chosen: Sequence[tuple[Ticket, int]], work: Callable) -> None:
        """Do the work; what goes wrong is told to those it concerns. Where several shared a pass, each
        is tried by itself, so that nobody fails for somebody else's question."""
        try:
            work(chosen)
        except Exception as error:
            tickets = list(dict.fromkeys(ticket for ticket, _ in chosen))
            if len(tickets) > 1:
                self._apart(tickets)
            else:
                self._fail(tickets[0], error)
        self._batches = [batch for batch in self._batches if not batch.failed]

    def _apart(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            if ticket.over:
                continue
            alone = [(ticket, place) for place in range(len(ticket.prompts))]
            try:
                if ticket.longest:
                    self._advance(_Batch(alone), math.inf)
                else:
                    ticket.told.clear()
                    self._place_all(alone)
            except Exception as error:
                self._fail(ticket, error)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            ticket.error, ticket.over = error, True
            self._changed.notify_all()


class _Batch:
    """Answers that are written together: (ticket, number of its prompt) for each row."""

    def __init__(self, chosen: Sequence[tuple[Ticket, int]]) -> None:
        self.chosen, self.ended, self.failed = chosen, False, False
        self.began = time.monotonic()
        first = chosen[0][0]
        self._stream = first.work.write(
            [(ticket.prompts[place], ticket.query) for ticket, place in chosen],
            [ticket.longest for ticket, _ in chosen], first.seed, self._wanted,
        )  # fmt: skip

    def step(self) -> list[tuple[str, bool]]:
        """The next token of every row."""
        self.failed = True  # until it went well
        found = next(self._stream, None)
        self.failed = False
        if found is None:
            self.ended = True
            return [(t.told[place][0], True) for t, place in self.chosen]
        self.ended = all(ended for _, ended in found)
        return found

    def _wanted(self, row: int) -> bool:
        ticket = self.chosen[row][0]
        return not ticket.over and ticket.wanted()


def waiting_text(before: int, seconds: float) -> str:
    """The place in the line, in words."""
    return text.WAITING_NEXT if not before else text.WAITING.format(before=before, seconds=f"{seconds:.0f}")
