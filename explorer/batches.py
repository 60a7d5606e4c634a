"""A small batch of queries: read from pasted lines, placed and answered through the desk like any other.

Only a few of its questions wait at a time, so that a batch takes its turns with everybody else, and its
visitor can ask something meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dro.data import check_query
from dro.errors import DataError
from explorer.desk import FullError, Ticket
from explorer.service import Service

ANSWER_TOKENS = 24
"""Length of a batch's answers: as in evaluations."""


def read_lines(told: object, most: int) -> list[str]:
    """The queries of a pasted text, one a line; DataError names a line that is none, or says what to cut."""
    if not isinstance(told, str):
        raise DataError(f"A batch is text, not {type(told).__name__}.", "Paste one query a line.")
    queries = []
    for number, line in enumerate(told.splitlines(), 1):
        if not line.strip():
            continue
        try:
            check_query(line.strip())
        except DataError as error:
            raise DataError(f"Line {number}: {error}") from None
        queries.append(line.strip())
    if not queries:
        raise DataError("There is no query.", "Paste one a line.")
    if len(queries) > most:
        raise DataError(
            f"{len(queries)} queries.", f"The page takes up to {most} at once; use Evaluate for more."
        )
    return queries


def placed(
    service: Service, queries: Sequence[str], prompts: Sequence[str]
) -> Iterator[tuple[int, list[Any]]]:
    """(number of a query, its points in the prompts' order), as they come."""
    yield from _through(service, queries, lambda query: service.place(query, prompts))


def answered(
    service: Service, queries: Sequence[str], prompt: str, max_tokens: int = ANSWER_TOKENS
) -> Iterator[tuple[int, list[Any]]]:
    """(number of a query, [(answer, ended)]), as they come."""
    yield from _through(service, queries, lambda query: service.ask(query, [prompt], max_tokens))


def _through(
    service: Service, queries: Sequence[str], join: Callable[[str], Ticket]
) -> Iterator[tuple[int, list[Any]]]:
    at_once = max(1, service.limits.questions_each // 2)
    waiting: deque[tuple[int, Ticket]] = deque()
    left = deque(enumerate(queries))
    try:
        while left or waiting:
            while left and len(waiting) < at_once:
                number, query = left[0]
                try:
                    waiting.append((number, join(query)))
                except FullError:
                    if not waiting:
                        raise
                    break  # others are waiting, too: go on with what is in the line
                left.popleft()
            number, ticket = waiting[0]
            service.wait(ticket)
            waiting.popleft()
            yield number, list(ticket.told)
    finally:
        for _, ticket in waiting:
            service.leave(ticket)
