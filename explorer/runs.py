"""Optimisation runs that outlive the page: a worker trains, pages follow.

A run belongs to a model and lives in a folder; a page that comes back, or another one, finds it by its
name. What is over stays on disk and is listed again after a restart.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dro import store
from dro.errors import DataError, DroError, StoreError
from dro.models import ChatModel
from dro.prompts import CARD_FILE, STANDARD, SafetyPrompt, resolve
from dro.recipes import RECIPES, Config, training_set
from dro.run_folder import CONFIG_FILE, STATES_FILE, TRASH, release
from explorer import shelf, text
from explorer.discretion import discreet, log_failure
from explorer.gpu import Bench
from explorer.limits import OWN, Limits
from explorer.run import Run, read_run
from explorer.training import Training
from explorer.turns import Turns, Visitor

PRESETS: dict[str, Config] = {
    # The page watches a run in its own way; a look at held-out queries is taken only to choose by.
    name: recipe if recipe.choose != "last" else recipe.model_copy(update={"validate_every": 0})
    for name, recipe in RECIPES.items()
}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,38}[A-Za-z0-9_-])?")
_NUMBERED = re.compile(r"dro-.+-(\d{1,9})")


class Runs:
    """The runs of one loaded model, and the worker that takes them one after the other."""

    def __init__(self, bench: Bench, folder: Path, turns: Turns, limits: Limits = OWN) -> None:
        self._limits = limits
        self._bench, self._folder, self._turns = bench, folder, turns
        self._training = Training(bench, turns)
        self._all: dict[str, Run] = {}
        self._waiting: queue.Queue[Run | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._trash: dict[str, Run] = {}
        """Deleted runs, by the names of their folders in the trash; the one deleted last is last."""
        self._highest = 0
        """Of all numbers ever given: a name that was free again would be taken for the run that had it."""
        self._read_folder()
        threading.Thread(target=self._work, name="runs", daemon=True).start()

    @property
    def bench(self) -> Bench:
        """The model that runs are trained on, and what goes with it."""
        return self._bench

    def names(self) -> list[str]:
        """All runs, newest last."""
        return list(self._all)

    def all(self) -> list[Run]:
        """The same, as they are."""
        return list(self._all.values())

    def usable(self) -> list[str]:
        """Runs whose prompt can be used."""
        return [name for name, run in list(self._all.items()) if run.usable]

    def get(self, name: str) -> Run:
        """The run called `name`; DataError where there is none."""
        if not isinstance(name, str) or name not in self._all:
            raise DataError(
                f"There is no run {str(name)[:40]!r} of this model.", "Start one on the page Optimise."
            )
        return self._all[name]

    def active(self) -> Run | None:
        """The run that is being worked on, or that waits to be."""
        return next((run for run in list(self._all.values()) if not run.over), None)

    def expect(self, config: Config) -> float:
        """Seconds that a run with these settings is likely to take, from click to the measured end."""
        return self._training.expect(config)

    def start(self, config: Config, preset: str, visitor: Visitor = Visitor(), key: str = "") -> Run:
        """Queue a new run; DataError where the settings ask for too much, or too many wait.

        key: known to whoever begins it; where it is given, only they may stop it (`Limits.owned`).
        """
        check(config, self._bench.model, self._limits)
        self._training.space(config)  # says how to fit it where there is none
        with self._lock:
            if self._closed:
                raise DataError("The model was changed meanwhile.", text.WAIT)
            self._check_room(visitor)
            stem = f"dro-{config.init if config.init.isalpha() else 'own'}"
            name = self._claim_name(stem, 1 + max(self._highest, self._numbered()))
            self._highest = int(name.rsplit("-", 1)[1])
            own = preset if PRESETS.get(preset) == config else "own settings"
            run = Run(name, own, config, self._folder / name, self._training.expect(config), visitor=visitor)
            run.owner = hashlib.sha256(key.encode()).hexdigest() if key else ""
            self._all[name] = run
        self._waiting.put(run)
        return run

    def _claim_name(self, stem: str, number: int) -> str:
        """The first free name from `number` on; its folder is made, so that another server takes the next."""
        while True:
            try:
                (self._folder / f"{stem}-{number}").mkdir(parents=True)
                return f"{stem}-{number}"
            except FileExistsError:
                number += 1
            except OSError as error:
                raise StoreError(
                    f"{self._folder} cannot be written: {error.strerror}.",
                    "Free some space, or set DRO_CACHE to a folder you can write to.",
                ) from None

    def _check_room(self, visitor: Visitor) -> None:
        going = [run for run in self._all.values() if not run.over]
        if len(going) >= self._limits.waiting_runs:
            left = sum(max(0.0, run.expected - run.elapsed()) for run in going[:1])
            raise DataError(
                f"{len(going)} runs are waiting already.", f"Come back in about {left / 60:.0f} min."
            )
        if sum(run.visitor == visitor for run in going) >= self._limits.runs_each:
            raise DataError("A run of yours is not over yet.", "Wait for its end, or stop it.")

    def _taken(self) -> set[str]:
        """Names of runs, those in the folder included that belong to another space."""
        there = self._folder.iterdir() if self._folder.is_dir() else ()
        kept = {folder.name for folder in there if _NAME.fullmatch(folder.name)}
        return set(self._all) | kept | {run.name for run in self.trash().values()}

    def _numbered(self) -> int:
        """The highest number that a name bears now."""
        found = [_NUMBERED.fullmatch(name) for name in self._taken()]
        return max((int(each[1]) for each in found if each), default=0)

    def resume(self, name: str) -> Run:
        """Go on with a run that was interrupted."""
        run = self.get(name)
        with self._lock:
            if run.phase != "interrupted":
                raise DataError(f"{name} was not interrupted.", "Start a new run.")
            run.phase, run.message, run.expected = "waiting", "", self._training.expect(run.config)
            run.stop.clear()
            run.version += 1
        self._waiting.put(run)
        return run

    def rename(self, name: str, new: str) -> Run:
        """Give a run that is over another name, which its folder has, too.

        Raises DataError for a name that is none or is taken, and for a run that is not over, or kept nothing.
        """
        new = new.strip() if isinstance(new, str) else ""
        if not _NAME.fullmatch(new) or new.lower() in STANDARD:
            raise DataError(
                "That is no name for a run.",
                "Use up to 40 letters, digits, spaces, dots and hyphens, and no name of another prompt.",
            )
        with self._lock:
            run = self._at_rest(name)
            if new == name:
                return run
            if new.lower() in {each.lower() for each in self._taken() - {name}}:
                raise DataError(f"There is a run called {new} already.", "Choose another name.")
            if not run.folder.is_dir():
                raise DataError(f"{name} kept nothing that could have a name.", "Start a new run.")
            run.folder = shelf.move(run.folder, self._folder / new)
            run.name, run.version = new, run.version + 1
            run.rates = [replace(each, prompt=new) if each.prompt == name else each for each in run.rates]
            self._all = {each.name: each for each in self._all.values()}
            return run

    def delete(self, name: str) -> str:
        """Put a run that is over into the trash; gives the name it has there, "" where it kept nothing."""
        with self._lock:
            run = self._at_rest(name)
            thrown = ""
            if run.folder.is_dir():
                run.folder = shelf.move(run.folder, shelf.free(self._folder / TRASH, name))
                thrown = run.folder.name
                self._trash[thrown] = run
            self._all = {other: each for other, each in self._all.items() if each is not run}
            return thrown

    def restore(self, thrown: str) -> Run:
        """Take a run out of the trash again; thrown: what `delete` gave."""
        run = self.thrown(thrown)
        with self._lock:
            there = (*self._all, *(folder.name for folder in _folders(self._folder)))
            if run.name.lower() in {each.lower() for each in there}:
                raise DataError(f"There is a run called {run.name} by now.", "Rename that one first.")
            run.folder = shelf.move(run.folder, self._folder / run.name)
            self._trash.pop(thrown, None)
            self._all = dict(sorted([*self._all.items(), (run.name, run)], key=lambda each: each[1].created))
            return run

    def thrown(self, thrown: str) -> Run:
        """A run in the trash; DataError where it is not there any more."""
        found = self._trash.get(thrown) if isinstance(thrown, str) else None
        if found is None or not found.folder.is_dir():
            raise DataError("That run is not in the trash any more.", "Look at the list again.")
        return found

    def trash(self) -> dict[str, Run]:
        """Deleted runs, by their names in the trash, the one deleted last first."""
        return {name: run for name, run in reversed(list(self._trash.items())) if run.folder.is_dir()}

    def _at_rest(self, name: str) -> Run:
        """A run that nobody works on; called with the lock."""
        run = self.get(name)
        if not run.over:
            raise DataError(f"{name} is not over yet.", "Stop it first, or wait for its end.")
        return run

    def prompt(self, name: str) -> SafetyPrompt:
        """A run's prompt under the run's name."""
        run = self.get(name)
        if not run.usable:
            raise DataError(f"{name} has no prompt yet ({run.phase}).", "Wait until it is saved.")
        found = resolve(str(run.folder), self._bench.model)
        return SafetyPrompt(name, found.text, found.vectors)

    def card(self, name: str) -> dict[str, Any]:
        """What is written beside a run's vectors; {} before they are there."""
        file = self.get(name).folder / CARD_FILE
        remedy = "Train it anew."
        try:
            return store.read_json(file, remedy) if file.is_file() else {}
        except StoreError:
            raise StoreError(f"{CARD_FILE} of {name} is damaged.", remedy) from None

    def anchor_states(self, name: str) -> np.ndarray | None:
        """States of the anchors under a run's prompt, (n, d_model); None where the file is damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        run = self._all.get(name)
        if run is None:  # deleted a moment ago
            return None
        path = run.folder / STATES_FILE
        try:
            return load_file(path)["after"]
        except (OSError, KeyError, SafetensorError) as error:
            logging.getLogger(__name__).warning("%s of %s is damaged: %s", path.name, name, error)
            return None

    def close(self) -> None:
        """Stop what runs and end the worker; the folder keeps what is there."""
        with self._lock:
            self._closed = True
            for run in self._all.values():
                run.stop.set()
        self._waiting.put(None)

    def _work(self) -> None:
        import torch

        while (run := self._waiting.get()) is not None:
            run.began = time.monotonic()
            try:
                if run.stop.is_set():
                    run.end_early()
                    continue
                with self._turns.worker():
                    self._training.take(run)
            except DroError as error:
                # The page is for everybody: it names the run, not where the server keeps it.
                run.message = discreet(str(error).replace(str(run.folder), run.name))
                # What the store could not hold can be gone on with when it can.
                going = isinstance(error, StoreError) and run.steps
                run.enter("interrupted" if going else "failed")
            except (MemoryError, torch.OutOfMemoryError):
                run.message = text.NO_MEMORY
                run.enter("failed")
            except Exception as error:
                log_failure(f"run {run.name}", error)
                run.message = text.UNEXPECTED
                run.enter("failed")
            finally:
                release(run.folder)

    def _read_folder(self) -> None:
        """List what earlier sessions left; a folder that cannot be read is left alone."""
        found = [each for each in map(self._read, _folders(self._folder)) if each]
        self._all = {run.name: run for run in sorted(found, key=lambda run: run.created)}
        thrown = sorted(_folders(self._folder / TRASH), key=lambda folder: folder.stat().st_ctime)
        self._trash = {folder.name: run for folder in thrown if (run := self._read(folder))}
        self._highest = self._numbered()

    def _read(self, folder: Path) -> Run | None:
        if not _NAME.fullmatch(shelf.name_of(folder)) or not (folder / CONFIG_FILE).is_file():
            return None
        try:
            return read_run(folder, self._bench.space.name)
        except (DroError, ValueError, KeyError, TypeError) as error:
            logging.getLogger(__name__).warning("%s is left out: %s", folder.name, error)
            return None


def _folders(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []


def check(config: Config, model: ChatModel, limits: Limits = OWN) -> None:
    """Refuse settings that would keep the machine for hours, or that cannot be."""
    if config.steps > limits.most_steps:
        raise DataError(
            f"{config.steps} steps.", f"The page takes up to {limits.most_steps}; use the command line."
        )
    if config.batch > limits.most_batch:
        raise DataError(f"A batch of {config.batch}.", f"The page takes up to {limits.most_batch}.")
    training_set(config)  # says what a run cannot train on
    if resolve(config.init, model).text is None:
        raise DataError(f"The prompt {config.init!r} has no tokens to train.", "Start from short.")
