"""Loads models and fits spaces in the background, and says how far it is."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dro import layer_files
from dro.data import bundled
from dro.errors import DataError, DroError, StoreError
from dro.layers import Layers
from dro.models import ChatModel, Precision, default_key, fetch_files, load
from dro.prompts import available, resolve
from dro.registry import DEFAULT
from dro.sources import cache_folder
from dro.space import Space, cached_folder, find, save, shipped
from explorer import gpu, text
from explorer.discretion import discreet, log_failure
from explorer.estimates import measure_rate
from explorer.gpu import Bench
from explorer.limits import OWN, Limits
from explorer.runs import Runs
from explorer.turns import Turns

if TYPE_CHECKING:
    # torch comes with this, and the page is drawn without it.
    from dro.states import PrefixCache


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model and what goes with it; `space` and `runs` are None until a space is fitted, `layers` until they
    are read."""

    model: ChatModel
    prefixes: PrefixCache
    space: Space | None
    runs: Runs | None
    layers: Layers | None = None


@dataclass(frozen=True)
class Stage:
    """Where loading stands: "loading", "fitting", "ready", "no space" or "failed"; text and share done."""

    kind: str
    text: str
    share: float = 0.0


_TOLD_FOR = 20.0
"""Seconds for which a failure is told while another model goes on serving."""


class Cancelled(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked to stop fitting."""


class Loading:
    """Holds at most one model in memory."""

    def __init__(self, turns: Turns, limits: Limits = OWN) -> None:
        self._turns, self._limits = turns, limits
        self._runs_folder = cache_folder() / "runs"
        self._busy = threading.Lock()
        self._cancel = threading.Event()
        self.loaded: Loaded | None = None
        self.stage = Stage("loading", text.LOADING)
        self.failure: DroError | None = None

    def preview(self, model: str, precision: Precision) -> Space | None:
        """A space that can be drawn before the weights are there: the shipped one of the default model."""
        return shipped(default_key(precision)) if model == DEFAULT else None

    def preview_layers(self, space: Space | None, precision: Precision) -> Layers | None:
        """The layers of such a space."""
        return None if space is None else layer_files.shipped(default_key(precision), space)

    def start(self, model: str, precision: Precision) -> None:
        """Load another model in the background; DataError while something else is under way."""
        self._begin(lambda: self._load(model, precision), Stage("loading", f"{text.LOADING} {model}"))

    def start_fit(self) -> None:
        """Fit a space of the loaded model in the background."""
        loaded = self.loaded
        if loaded is None:
            raise DataError(f"{text.LOADING}.", text.WAIT)
        if loaded.space is not None:
            raise DataError(f"{loaded.model.name} has a space already.", "There is nothing to fit.")
        self._begin(lambda: self._fit(loaded), Stage("fitting", text.FITTING))

    def start_layers(self) -> None:
        """Read the layers of the loaded model in the background."""
        loaded = self.loaded
        if loaded is None:
            raise DataError(f"{text.LOADING}.", text.WAIT)
        if loaded.space is None:
            raise DataError(f"There is no space for {loaded.model.name} yet.", text.FIT_FIRST)
        self._begin(lambda: self._read_layers(loaded), Stage("fitting", text.READING))

    def cancel_fit(self) -> None:
        """Stop fitting, or reading layers, at the next model pass."""
        self._cancel.set()

    def _begin(self, work: Callable[[], None], stage: Stage) -> None:
        if self.loaded and self.loaded.runs and self.loaded.runs.active():
            raise DataError("A run is in progress on this model.", "Stop it first, or wait for its end.")
        # What ended just now may have said so a moment before it lets go.
        if not self._busy.acquire(timeout=0.5):
            raise DataError(f"{self.stage.text} …", "Wait until that is done.")
        self._cancel.clear()
        self.stage, self.failure = stage, None

        def guarded() -> None:
            import torch

            try:
                work()
            except DroError as error:
                self._fail(error)
            except Cancelled:
                self._settle()
            except (MemoryError, torch.OutOfMemoryError):
                self._fail(DroError(text.NO_MEMORY))
            except Exception as error:
                log_failure("loading", error)
                self._fail(DroError(text.UNEXPECTED))
            finally:
                self._busy.release()

        threading.Thread(target=guarded, name="loading", daemon=True).start()

    def _fail(self, error: DroError) -> None:
        """Tell what went wrong; a model that is still there goes on serving."""
        self.failure = error
        self.stage = Stage("failed", discreet(str(error)))
        if self.loaded is not None:  # told for a while, then what is there counts again
            timer = threading.Timer(_TOLD_FOR, self._settle_after, [self.stage])
            timer.daemon = True
            timer.start()

    def _settle_after(self, stage: Stage) -> None:
        if self.stage is stage:
            self._settle()

    def _load(self, name: str, precision: Precision) -> None:
        from dro.states import PrefixCache

        fetch_files(name, self._note("loading"))  # before the old one goes: the name may not exist
        with self._turns.worker():
            old, self.loaded = self.loaded, None
            if old and old.runs:
                old.runs.close()
            del old
            gc.collect()
            model = load(name, precision, progress=self._note("loading"))
            prefixes = PrefixCache(model)
            try:
                space: Space | None = find(model)
            except StoreError as error:
                logging.getLogger(__name__).info("%s", error)
                space = None
            self._set(model, prefixes, space)

    def _pause(self) -> None:
        self._turns.give_way()
        if self._cancel.is_set():
            raise Cancelled

    def _read_layers(self, loaded: Loaded) -> None:
        from dro import layers

        assert loaded.space is not None
        with self._turns.worker():
            found = layers.fit(
                loaded.space, loaded.model, self._note("fitting"), self._pause, loaded.prefixes
            )
        self.loaded = replace(loaded, layers=found)  # first: they are shown even where the disk is full
        self._settle()
        layer_files.save(found, cached_folder(loaded.model))

    def _fit(self, loaded: Loaded) -> None:
        from dro import fitting

        with self._turns.worker():
            parts = fitting.shards_of(loaded.model, bundled("anchors"))
            fitted = fitting.fit(
                loaded.model, bundled("anchors"), progress=self._note("fitting"), checkpoint=self._pause,
                shards=parts,
            )  # fmt: skip
            self._set(loaded.model, loaded.prefixes, fitted)  # first: it serves even where the disk is full
            save(fitted, cached_folder(loaded.model))
            parts.clear()

    def _set(self, model: ChatModel, prefixes: PrefixCache, space: Space | None) -> None:
        runs = None
        if space is not None:
            texts = bundled("anchors").texts[:24]
            rate = gpu.RATE if gpu.LENT else measure_rate(model, prefixes, texts)
            bench = Bench(model, space, prefixes, rate)
            gpu.serve(bench)
            runs = Runs(bench, self._runs_folder / model.key, self._turns, self._limits)
            # So that the first query need not wait for them.
            for name in () if gpu.LENT else available(model):
                prefixes.get(resolve(name, model))
        layers = None if space is None else layer_files.find(space, model)
        self.loaded = Loaded(model, prefixes, space, runs, layers)
        self._settle()

    def _settle(self) -> None:
        loaded = self.loaded
        if loaded is None:
            self.stage = Stage("failed", text.NO_MODEL)
            return
        name = f"{loaded.model.name} ({loaded.model.precision})"
        if loaded.space is None:
            self.stage = Stage("no space", text.NO_SPACE.format(model=name))
        else:
            self.stage = Stage("ready", text.READY.format(model=name), 1.0)

    def _note(self, kind: str) -> Callable[[str, float], None]:
        def note(label: str, share: float) -> None:
            self.stage = Stage(kind, label, share)

        return note
