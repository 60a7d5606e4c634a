"""The one place that calls dro: the loaded model, its space, and the lock around both.

One model call at a time: two torch jobs beside each other are many times slower than one after the
other. The lock is taken per call, never across a yield.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dro.data import check_query
from dro.errors import DataError, DroError
from dro.models import ChatModel, load
from dro.prompts import STANDARD, available, resolve
from dro.space import Space, find, locate
from dro.states import PrefixCache
from explorer import text


@dataclass(frozen=True)
class Loaded:
    """A model, its space and the prefixes it has run."""

    model: ChatModel
    space: Space
    prefixes: PrefixCache


class Service:
    """Loads a model in the background and answers for it."""

    def __init__(self, model: str, precision: str) -> None:
        self._wanted = (model, precision)
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None
        self._failure: DroError | None = None
        self._stage = ("", 0.0)

    def start_loading(self) -> None:
        """Begin to load the model; the page is served meanwhile."""
        threading.Thread(target=self._load, name="load-model", daemon=True).start()

    def status(self) -> str:
        """One line on where loading stands."""
        if self._failure is not None:
            return str(self._failure)
        if self._loaded is not None:
            return f"{text.LOADED}: {self._loaded.model.name} in {self._loaded.model.precision}."
        label, share = self._stage
        return f"{text.LOADING}: {label.lower()}, {share:.0%}." if label else f"{text.LOADING}."

    def prompt_names(self) -> tuple[str, ...]:
        """The standard prompts; before the model is there, all that there are."""
        return available(self._loaded.model) if self._loaded else STANDARD

    def locate(self, query: str, prompts: Sequence[str]) -> dict[str, Any]:
        """Where `query` lies under each prompt: the same json as `python -m dro locate --json`."""
        check_query(query)
        loaded = self._need()
        names = [_public_name(name) for name in prompts or available(loaded.model)]
        with self._lock:
            chosen = [resolve(name, loaded.model) for name in names]
            points = locate(loaded.space, loaded.model, query, chosen, loaded.prefixes)
        return {"space": loaded.space.name, "points": [point.as_dict() for point in points]}

    def _need(self) -> Loaded:
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            raise DroError(f"{text.LOADING}.", text.WAIT)
        return self._loaded

    def _load(self) -> None:
        try:
            with self._lock:
                model = load(*self._wanted, progress=self._note)  # type: ignore[arg-type]  # checked there
                self._loaded = Loaded(model, find(model), PrefixCache(model))
        except DroError as error:
            self._failure = error

    def _note(self, label: str, share: float) -> None:
        self._stage = (label, share)


def _public_name(name: object) -> str:
    """A prompt's name as a visitor may give it: no paths, which only the command line reads."""
    if isinstance(name, str) and (name in STANDARD or name.startswith(("template+", "text:"))):
        return name
    raise DataError(
        f"There is no prompt {name!r}.", f"Use {', '.join(STANDARD)}, or text: and your own words."
    )
