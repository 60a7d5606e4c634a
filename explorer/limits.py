"""What visitors may ask of this machine: one's own, a classroom's, or one that is open to everybody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dro.errors import DataError


@dataclass(frozen=True)
class Limits:
    """Caps of one server. Counts are of things at a time unless they say otherwise.

    Attributes
    ----------
    presets, most_steps, most_batch: of a run on the page. waiting_runs, runs_each: runs that are not over,
        in all and of one visitor. owned: only who began a run may change it: stop, go on
        with, rename, delete, restore.
    most_queries: of one evaluation. evaluations, evaluations_each: in all and of one visitor.
    answer_tokens: longest answer. questions, questions_each: waiting for the model.
    loading: visitors may load another model; models: only these (None: any). fitting: they may fit a space,
        and read a model's layers.
    batch: queries of one batch. maps: visitors may choose the settings of a map.
    followers: programs that follow a run. tick: seconds between a page's looks.
    sessions: visitors whose page is remembered. patience: seconds after which a run gets a step in.
    """

    name: str = "own"
    presets: tuple[str, ...] = ()
    most_steps: int = 1000
    most_batch: int = 100
    waiting_runs: int = 8
    runs_each: int = 8
    owned: bool = False
    most_queries: int = 400
    evaluations: int = 4
    evaluations_each: int = 4
    answer_tokens: int = 200
    questions: int = 64
    questions_each: int = 16
    loading: bool = True
    models: tuple[str, ...] | None = None
    fitting: bool = True
    batch: int = 200
    maps: bool = True
    followers: int = 64
    tick: float = 1.0
    sessions: int = 500
    patience: float = 4.0

    def check_model(self, name: str) -> None:
        """Raise where visitors may not load the model `name`."""
        if not self.loading:
            raise DataError("Visitors cannot load models here.", "Ask whoever runs this server.")
        if self.models is not None and name not in self.models:
            raise DataError(
                "That model is not on this server's list.",
                f"Choose {', '.join(self.models) or 'the one that is loaded'}.",
            )

    def check_preset(self, preset: str) -> None:
        """Raise where a preset costs too much here."""
        if self.presets and preset not in self.presets:
            raise DataError(f"The preset {preset!r} costs too much here.", f"Use {', '.join(self.presets)}.")


OWN = Limits()
CLASSROOM = Limits(
    "classroom", presets=("quick",), most_steps=60, most_batch=32, waiting_runs=4, runs_each=1, owned=True,
    most_queries=120, evaluations=2, evaluations_each=1, answer_tokens=64, questions=96, questions_each=8,
    loading=False, fitting=False, batch=40, maps=False, tick=3.0, patience=8.0,
)  # fmt: skip
PUBLIC = replace(
    CLASSROOM, name="public", loading=True, models=(), waiting_runs=2, most_queries=60, questions=64,
    questions_each=4, batch=20, followers=32, sessions=200,
)  # fmt: skip


def chosen(classroom: bool, public: bool, environment: Mapping[str, str] = os.environ) -> Limits:
    """The limits of the switches; models that visitors of a public page may load stand in DRO_MODELS.

    On a Hugging Face Space, where nobody gives switches, the page is a public one.
    """
    if not public and (classroom or "SPACE_ID" not in environment):
        return CLASSROOM if classroom else OWN
    named = tuple(name.strip() for name in environment.get("DRO_MODELS", "").split(",") if name.strip())
    return replace(PUBLIC, models=named, loading=bool(named))


def accounts(environment: Mapping[str, str] = os.environ) -> list[tuple[str, str]] | None:
    """Who may enter, from DRO_AUTH (`name:password`, several with commas); None: everybody.

    Raises
    ------
    DataError: an entry without a name or a password; says nothing of what it holds.
    """
    told = environment.get("DRO_AUTH", "")
    if not told:
        return None
    found = [tuple(entry.strip().split(":", 1)) for entry in told.split(",")]
    if any(len(each) != 2 or not all(each) for each in found):
        raise DataError("DRO_AUTH cannot be read.", "Write name:password, several with commas between.")
    return [(each[0], each[1]) for each in found]
