"""Evaluations of prompts on query sets, in the background: prompt by prompt, with progress and cancel."""

from __future__ import annotations

import csv
import io
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dro.compare import Comparison, mcnemar
from dro.data import CLASSES, QuerySet
from dro.errors import DataError, DroError
from dro.prompts import SafetyPrompt
from dro.refusal import PHRASES
from dro.tables import spreadsheet_safe
from explorer import gpu, lent, text
from explorer.discretion import discreet, log_failure
from explorer.estimates import answer_seconds
from explorer.gpu import Bench
from explorer.limits import OWN, Limits
from explorer.turns import Turns, Visitor

if TYPE_CHECKING:
    # torch comes with these, and the page is drawn without it.
    from dro.evaluate import Rate, Said


KEPT = 16
"""Evaluations kept in memory."""


class _Cancelled(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked to stop."""


@dataclass(frozen=True)
class Row:
    """One query under every prompt that is done: answers, and the verdicts of both judges, by prompt."""

    query: str
    label: str
    answers: dict[str, str]
    verdicts: dict[str, str]
    others: dict[str, str]
    """Verdicts of the judge first-token; empty where the space does not know how refusals open."""


@dataclass(eq=False)
class Evaluation:
    """One evaluation as a page sees it. `phase`: working, done, stopped or failed.

    version grows with every prompt that is finished; share is of the whole.
    """

    prompts: tuple[str, ...]
    sets: tuple[QuerySet, ...]
    expected: float
    phase: str = "working"
    message: str = ""
    share: float = 0.0
    version: int = 0
    rates: list[Rate] = field(default_factory=list)
    said: list[tuple[Said, str]] = field(default_factory=list)
    """Every answer with what the judge first-token says of it ("" where it cannot tell)."""
    began: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    folder: tempfile.TemporaryDirectory = field(default_factory=tempfile.TemporaryDirectory)
    """Where downloads are written; it goes when the evaluation is forgotten."""
    visitor: Visitor = field(default_factory=Visitor)

    @property
    def over(self) -> bool:
        return self.phase != "working"

    @property
    def finished(self) -> list[str]:
        """Prompts that have answered everything."""
        return list(dict.fromkeys(row.prompt for row in self.rates))

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def total(self, prompt: str, label: str) -> Rate | None:
        """A prompt's refusals on all queries of one class, over all sets; None where there are none."""
        verdicts = [[s.verdict] for s, _ in self.said if s.prompt == prompt and s.label == label]
        from dro.evaluate import rate

        return rate(prompt, "all sets", label, verdicts, PHRASES) if verdicts else None

    def rows(self) -> list[Row]:
        """Query by query, in the sets' order."""
        found: dict[tuple[str, str], Row] = {}
        for said, other in self.said:
            row = found.setdefault((said.label, said.query), Row(said.query, said.label, {}, {}, {}))
            row.answers[said.prompt], row.verdicts[said.prompt] = said.answer, said.verdict
            if other:
                row.others[said.prompt] = other
        return list(found.values())

    def compare(self, first: str, second: str) -> dict[str, Comparison]:
        """McNemar's test between two finished prompts, by class."""
        for name in (first, second):
            if name not in self.finished:
                raise DataError(f"{name!r} has not been evaluated.", "Choose two prompts that have.")
        rows = self.rows()
        return {
            label: mcnemar(
                [r.verdicts[first] == "refused" for r in rows if r.label == label],
                [r.verdicts[second] == "refused" for r in rows if r.label == label],
            )
            for label in CLASSES if any(r.label == label for r in rows)
        }  # fmt: skip

    def as_json(self) -> str:
        """Everything, for download."""
        told = {
            "results": [row.as_dict() for row in self.rates],
            "sets": [{"name": s.name, "sha256": s.digest, "queries": len(s)} for s in self.sets],
            "answers": [{**said.as_dict(), "first_token": other} for said, other in self.said],
        }
        return json.dumps(told, ensure_ascii=False, indent=1)

    def as_csv(self) -> str:
        """Every answer as a row; a cell that a spreadsheet would run as a formula gets a quote before it."""
        stream = io.StringIO()
        writer = csv.writer(stream)
        writer.writerow(("prompt", "class", "query", "answer", "phrases", "first_token"))
        for said, other in self.said:
            cells = (said.prompt, said.label, said.query, said.answer, said.verdict, other)
            writer.writerow([spreadsheet_safe(cell) for cell in cells])
        return stream.getvalue()


def expected_seconds(bench: Bench, prompts: int, queries: int) -> float:
    """Seconds an evaluation is likely to take: reading each query, and 24 words one at a time."""
    from dro.generate import Decoding

    return answer_seconds(bench, prompts * queries, Decoding().max_tokens)


def start(
    bench: Bench, turns: Turns, prompts: Sequence[SafetyPrompt], sets: Sequence[QuerySet],
    most: int = OWN.most_queries, visitor: Visitor = Visitor(),
) -> Evaluation:  # fmt: skip
    """Begin in the background; DataError where there is too much or nothing to do."""
    count = sum(len(each) for each in sets)
    if not count:
        raise DataError("No query set is chosen.", "Choose one, or upload a file.")
    if count > most:
        raise DataError(f"{count} queries.", f"The page takes up to {most}; use the command line.")
    names = tuple(prompt.name for prompt in prompts)
    made = Evaluation(names, tuple(sets), expected_seconds(bench, len(prompts), count), visitor=visitor)
    threading.Thread(target=_work, args=(made, bench, turns, prompts), name="evaluation", daemon=True).start()
    return made


def _work(made: Evaluation, bench: Bench, turns: Turns, prompts: Sequence[SafetyPrompt]) -> None:
    import torch

    def pause() -> None:
        turns.give_way()
        if made.stop.is_set():
            raise _Cancelled

    try:
        with turns.worker():
            for number, prompt in enumerate(prompts):
                _one(made, bench, prompt, number / len(prompts), 1 / len(prompts), pause)
        made.share, made.phase = 1.0, "done"
    except _Cancelled:
        made.phase, made.message = "stopped", text.EVALUATION_STOPPED
    except DroError as error:
        made.phase, made.message = "failed", discreet(str(error))
    except (MemoryError, torch.OutOfMemoryError):
        made.phase, made.message = "failed", text.NO_MEMORY
    except Exception as error:
        log_failure("evaluation", error)
        made.phase, made.message = "failed", text.UNEXPECTED
    made.version += 1


def _one(
    made: Evaluation, bench: Bench, prompt: SafetyPrompt, start: float, share: float, pause: Any
) -> None:
    def note(_: str, fraction: float) -> None:
        made.share = start + share * fraction

    from dro import first_token
    from dro.evaluate import evaluate
    from dro.generate import Decoding
    from dro.judges import FirstToken

    report = (
        gpu.ask(lent.answered, prompt, made.sets) if gpu.LENT
        else evaluate(bench.model, [prompt], made.sets, Decoding(), note, pause)
    )  # fmt: skip
    pause()
    others = [""] * len(report.said)
    if first_token.known(bench.space.openings):
        judge = FirstToken(bench.model, bench.space.openings)
        told = judge([s.query for s in report.said], [s.answer for s in report.said])
        others = [verdict.outcome for verdict in told]
    made.said += list(zip(report.said, others, strict=True))
    made.rates += report.rates
    made.version += 1


class Evaluations:
    """The evaluations of a server: few at once, few of one visitor, the last ones kept to be read."""

    def __init__(self, turns: Turns, limits: Limits) -> None:
        self._turns, self._limits = turns, limits
        self._made: dict[str, Evaluation] = {}
        self._lock = threading.RLock()

    @property
    def going(self) -> list[Evaluation]:
        """Those under way."""
        with self._lock:
            return [each for each in self._made.values() if not each.over]

    def start(
        self, bench: Bench, prompts: Sequence[SafetyPrompt], sets: Sequence[QuerySet], visitor: Visitor
    ) -> str:
        """Begin one in the background and give its name, which nobody can guess; DataError where too many
        are under way, or where there is too much or nothing to do."""
        limits = self._limits
        with self._lock:
            going = self.going
            if len(going) >= limits.evaluations:
                raise DataError(f"{len(going)} evaluations are under way.", "Wait for one to end.")
            if sum(each.visitor == visitor for each in going) >= limits.evaluations_each:
                raise DataError("An evaluation of yours is under way.", "Stop it first, or wait for its end.")
            made = start(bench, self._turns, prompts, sets, limits.most_queries, visitor)
            name = secrets.token_hex(8)
            self._made[name] = made
            for old in list(self._made)[:-KEPT]:
                if self._made[old].over:
                    del self._made[old]
            return name

    def get(self, name: str) -> Evaluation | None:
        """An evaluation by its name; None where it is not kept any more."""
        return self._made.get(name) if isinstance(name, str) else None
