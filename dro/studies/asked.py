"""What a study was asked to be, in words that travel: every worker makes the same context of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dro import judges, models, refusal
from dro.judges import Judge
from dro.models import ChatModel
from dro.sources import Progress, silent
from dro.space import Space, find
from dro.studies.context import Context


@dataclass(frozen=True)
class Asked:
    """The words of `python -m dro study` (see `Context`). judge: by name. space: folder of the model's own.

    Folders and files must be there, under the same path, wherever cells are measured.
    """

    name: str
    work: Path
    seeds: int
    limit: int | None = None
    full: bool = False
    steps: int | None = None
    batch: int | None = None
    run: str | None = None
    judge: str = refusal.PHRASES
    space: Path | None = None
    suffixes: Path | None = None
    instructions: Path | None = None
    sets: tuple[str, ...] = ()

    def context(self, model: ChatModel, progress: Progress = silent) -> Context:
        """The study's ground for a model that is loaded."""

        @cache
        def spaces(recipe: str) -> Space:
            # A folder the user names is the model's own space; the paper's lies beside the shipped ones.
            return find(model, None if recipe else self.space, recipe)

        return Context(
            model, spaces, self.work, self.seeds, self.limit, self.full, self.steps, self.batch, self.run,
            _judge(self.judge, model, spaces), self.suffixes, self.instructions, self.sets, progress,
        )  # fmt: skip


def _judge(name: str, model: ChatModel, spaces: Callable[[str], Space]) -> Judge:
    judges.check(name)
    if name == judges.PHRASES:
        return judges.Phrases()
    if name == judges.FIRST_TOKEN:
        return judges.FirstToken(model, spaces("").need_openings())
    return judges.Asked(models.load(name.removeprefix(judges.MODEL)))
