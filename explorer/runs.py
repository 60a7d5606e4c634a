"""Optimisation runs that outlive the page: a worker trains, pages follow.

A run belongs to a model and lives in a folder; a page that comes back, or another one, finds it by its
name. What is over stays on disk and is listed again after a restart.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dro import store
from dro.data import QuerySet, bundled
from dro.errors import DataError, DroError, StoreError
from dro.models import ChatModel
from dro.prompts import CARD_FILE, SOFT_PROMPT_FILE, STANDARD, SafetyPrompt, resolve
from dro.recipes import RECIPES, Config, training_set
from dro.region import Region
from dro.run_folder import CONFIG_FILE, STATES_FILE, TRASH, Step, hold, read_curve, release
from dro.space import Space, find
from explorer import gpu, lent, shelf, text
from explorer.discretion import discreet, log_failure
from explorer.gpu import Bench
from explorer.lent import LentRun
from explorer.limits import OWN, Limits
from explorer.turns import Turns, Visitor

if TYPE_CHECKING:
    # torch comes with these, and the page is drawn without it.
    from dro.evaluate import Rate
    from dro.optimise import Optimisation
    from dro.states import PrefixCache

PRESETS: dict[str, Config] = {
    # The page watches a run in its own way; a look at held-out queries is taken only to choose by.
    name: recipe if recipe.choose == "mass" else recipe.model_copy(update={"validate_every": 0})
    for name, recipe in RECIPES.items()
}
TRAINED_ON = ("anchors", "train")
"""Query sets that a visitor's run may use; the others are there to measure."""
WATCHED = 8
"""Queries of each class watched, from either set: 16 trained on and 16 held out in all."""
WATCH_SHARE = 0.15
"""At most this share of a run's time goes into watching."""
MEASURED_FILE, PAGE_FILE = "measured.json", "page.json"
OVER = ("done", "stopped", "failed", "interrupted")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,38}[A-Za-z0-9_-])?")
_NUMBERED = re.compile(r"dro-.+-(\d{1,9})")


class StopRequested(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked the run to stop."""


@dataclass(frozen=True, eq=False)
class Watched:
    """The watch set: its queries, and their coordinates (n, m) at each look, by number of steps done."""

    queries: QuerySet
    trained: np.ndarray
    looks: list[tuple[int, np.ndarray]] = field(default_factory=list)

    @property
    def harmful(self) -> np.ndarray:
        return np.array([q.harmful for q in self.queries.queries])


@dataclass(eq=False)
class Run:
    """One run as pages see it. `phase` is waiting, preparing, training, saving, measuring, or one of OVER.

    expected: seconds it was expected to take. rates: on validation queries, before and after.
    region: what the frozen probe is worth on the states of those queries after training.
    version: grows with every change, so that a page redraws only what is new.
    """

    name: str
    preset: str
    config: Config
    folder: Path
    expected: float
    phase: str = "waiting"
    message: str = ""
    steps: list[Step] = field(default_factory=list)
    watched: Watched | None = None
    rates: list[Rate] = field(default_factory=list)
    region: Region | None = None
    began: float = 0.0
    seconds: float = 0.0
    version: int = 0
    usable: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    visitor: Visitor = field(default_factory=Visitor)
    created: float = field(default_factory=time.time)
    """When it was asked for, in seconds since 1970."""
    owner: str = ""
    """Hash of the key that was given to whoever began it; "" where nobody owns it."""

    def owned_by(self, keys: Iterable[object]) -> bool:
        """One of the keys is that of this run."""
        hashes = (hashlib.sha256(key.encode()).hexdigest() for key in keys if isinstance(key, str))
        return any(secrets.compare_digest(each, self.owner) for each in hashes)

    @property
    def over(self) -> bool:
        return self.phase in OVER

    def as_dict(self) -> dict[str, Any]:
        """What the interface for programs tells of it."""
        last = self.steps[-1] if self.steps else None
        return {
            "run": self.name, "phase": self.phase, "message": self.message, "preset": self.preset,
            "step": len(self.steps), "steps": self.config.steps, "usable": self.usable,
            "loss": last and last.loss, "expected_seconds": round(self.expected, 1),
            "seconds": round(self.elapsed(), 1), "results": [r.as_dict() for r in self.rates],
            "region": self.region and self.region.as_dict(),
        }  # fmt: skip

    def elapsed(self) -> float:
        """Seconds since it began, or that it took."""
        return self.seconds if self.over or not self.began else time.monotonic() - self.began


class Runs:
    """The runs of one loaded model, and the worker that takes them one after the other."""

    def __init__(self, bench: Bench, folder: Path, turns: Turns, limits: Limits = OWN) -> None:
        self._limits = limits
        self._bench, self._folder, self._turns = bench, folder, turns
        self._all: dict[str, Run] = {}
        self._waiting: queue.Queue[Run | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._speed = 1.0
        """How much longer steps take than foreseen, learned from the last run."""
        self._before: dict[str, list[Rate]] = {}
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
        return expected_seconds(self._bench, config, self._speed)

    def start(self, config: Config, preset: str, visitor: Visitor = Visitor(), key: str = "") -> Run:
        """Queue a new run; DataError where the settings ask for too much, or too many wait.

        key: known to whoever begins it; where it is given, only they may stop it (`Limits.owned`).
        """
        check(config, self._bench.model, self._limits)
        self._space(config)  # says how to fit it where there is none
        with self._lock:
            if self._closed:
                raise DataError("The model was changed meanwhile.", text.WAIT)
            self._check_room(visitor)
            stem = f"dro-{config.init if config.init.isalpha() else 'own'}"
            name = self._claim_name(stem, 1 + max(self._highest, self._numbered()))
            self._highest = int(name.rsplit("-", 1)[1])
            own = preset if PRESETS.get(preset) == config else "own settings"
            run = Run(name, own, config, self._folder / name, self.expect(config), visitor=visitor)
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

    def _space(self, config: Config) -> Space:
        """The space whose directions a run is trained on; pictures are always of the model's own."""
        return find(self._bench.model, recipe=config.space) if config.space else self._bench.space

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
            run.phase, run.message, run.expected = "waiting", "", self.expect(run.config)
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
                    self._enter_early(run)
                    continue
                with self._turns.worker():
                    self._take(run)
            except DroError as error:
                # The page is for everybody: it names the run, not where the server keeps it.
                run.message = discreet(str(error).replace(str(run.folder), run.name))
                # What the store could not hold can be gone on with when it can.
                going = isinstance(error, StoreError) and run.steps
                self._enter(run, "interrupted" if going else "failed")
            except (MemoryError, torch.OutOfMemoryError):
                run.message = text.NO_MEMORY
                self._enter(run, "failed")
            except Exception as error:
                log_failure(f"run {run.name}", error)
                run.message = text.UNEXPECTED
                self._enter(run, "failed")
            finally:
                release(run.folder)

    def _take(self, run: Run) -> None:
        """Train, save, measure; called with the turn, which it gives away between model passes."""
        from dro import held_out
        from dro.optimise import Optimisation

        bench, stopped = self._bench, False
        optimisation: Optimisation | LentRun | None = None
        # Another server on this store may hold the run's folder: said before anything is computed.
        if not gpu.LENT:  # there whoever is at a piece of it holds it
            hold(run.folder)

        def pause() -> None:
            self._turns.give_way()
            if run.stop.is_set():
                raise StopRequested

        self._enter(run, "preparing")
        anchors = bundled("anchors")
        run.watched = watch_set(anchors, bundled("validation", "select"))
        try:
            self._look(run, run.watched, resolve(run.config.init, bench.model), pause)
            unseen = bundled("validation", "select") if run.config.validate_every else None
            optimisation = LentRun(bench, run.config, run.folder) if gpu.LENT else Optimisation(
                bench.model, self._space(run.config), run.config, training_set(run.config), unseen,
                run.folder, checkpoint=pause,
            )  # fmt: skip
            store.write_json(run.folder / PAGE_FILE, {"preset": run.preset, "owner": run.owner})
            run.steps = optimisation.curve
            self._train(run, optimisation, run.watched, pause)
        except StopRequested:
            stopped = True
        if optimisation is None or not run.steps:
            return self._enter_early(run)
        self._enter(run, "saving")
        run.stop.clear()
        # From here on a second click on stop ends the measuring; the prompt is saved in any case.
        optimisation.when_idle(self._turns.give_way)
        prompt = optimisation.finish(partial(self._offer, run, run.watched, optimisation))
        try:
            before = self._measure_start(run, pause)
            named = SafetyPrompt(run.name, prompt.text, prompt.vectors)
            after = (
                gpu.ask(lent.held_out, named) if gpu.LENT
                else held_out.report(bench.model, bench.space, named, None, checkpoint=pause)
            )  # fmt: skip
            run.rates, run.region = [*before, *after.rates], after.region
            measured = {"rates": [r.as_dict() for r in run.rates], "region": asdict(run.region)}
            store.write_json(run.folder / MEASURED_FILE, measured)
        except StopRequested:
            run.message = text.NOT_MEASURED
        return self._enter(run, "stopped" if stopped or optimisation.diverged else "done")

    def _offer(
        self, run: Run, watched: Watched, optimisation: Optimisation | LentRun, prompt: SafetyPrompt
    ) -> None:
        """The prompt is written: from now on pages may use it, while what it did is measured."""
        run.message = optimisation.diverged
        with_states = self._states(prompt, watched, None)
        watched.looks.append((len(run.steps), self._bench.space.projection.coordinates(with_states)))
        ends = [watched.looks[0], watched.looks[-1]]
        told = {"preset": run.preset, "owner": run.owner,
                "watched": [[step, places.tolist()] for step, places in ends]}  # fmt: skip
        store.write_json(run.folder / PAGE_FILE, told)
        if not gpu.LENT:
            self._bench.prefixes.get(prompt)  # so that the first query under it need not wait
        run.usable = True
        self._enter(run, "measuring")

    def _train(
        self, run: Run, optimisation: Optimisation | LentRun, watched: Watched, pause: Callable
    ) -> None:
        began, watching, last_look = time.monotonic(), 0.0, 0.0
        for step in optimisation.steps():
            if not run.steps:
                self._enter(run, "training")
            run.steps.append(step)
            run.phase = "training"
            run.version += 1
            spent = time.monotonic() - began
            if watching + last_look <= WATCH_SHARE * spent and step.step < run.config.steps:
                before = time.monotonic()
                self._look(run, watched, optimisation.prompt(), pause)
                last_look = time.monotonic() - before
                watching += last_look
            pause()
        foreseen = expected_step(self._bench, run.config)
        if run.steps:
            self._speed = float(np.median([s.seconds for s in run.steps])) / foreseen

    def _look(self, run: Run, watched: Watched, prompt: SafetyPrompt, pause: Callable[[], None]) -> None:
        states = self._states(prompt, watched, pause)
        watched.looks.append((len(run.steps), self._bench.space.projection.coordinates(states)))
        run.version += 1

    def _states(self, prompt: SafetyPrompt, watched: Watched, pause: Callable[[], None] | None) -> np.ndarray:
        from dro.states import last_token_states

        texts = watched.queries.texts
        if gpu.LENT:
            return gpu.ask(lent.states, prompt, texts)
        return last_token_states(self._bench.model, prompt, texts, None, checkpoint=pause or (lambda: None))

    def _measure_start(self, run: Run, pause: Callable[[], None]) -> list[Rate]:
        start = resolve(run.config.init, self._bench.model)
        if start.digest not in self._before:
            self._before[start.digest] = self._measure(start, start.name, pause)
        return self._before[start.digest]

    def _measure(self, prompt: SafetyPrompt, name: str, pause: Callable[[], None]) -> list[Rate]:
        from dro.evaluate import evaluate
        from dro.generate import Decoding

        named = SafetyPrompt(name, prompt.text, prompt.vectors)
        asked = [bundled("validation", "report")]
        report = (
            gpu.ask(lent.answered, named, asked) if gpu.LENT
            else evaluate(self._bench.model, [named], asked, Decoding(), checkpoint=pause)
        )  # fmt: skip
        return list(report.rates)

    def _enter_early(self, run: Run) -> None:
        """Stopped before a step was taken; a run that was interrupted before can still go on."""
        run.message = "" if run.steps else text.STOPPED_EARLY
        if not run.steps:
            with contextlib.suppress(OSError):  # only the empty folder that its name was claimed by
                run.folder.rmdir()
        self._enter(run, "interrupted" if run.steps else "stopped")

    def _enter(self, run: Run, phase: str) -> None:
        if phase in OVER:
            run.seconds = time.monotonic() - run.began if run.began else 0.0
        run.phase = phase
        run.version += 1

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
            return _read_run(folder, self._bench.space.name)
        except (DroError, ValueError, KeyError, TypeError) as error:
            logging.getLogger(__name__).warning("%s is left out: %s", folder.name, error)
            return None


def _folders(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []


def _read_run(folder: Path, space: str) -> Run:
    name = shelf.name_of(folder)
    told = store.read_json(folder / CONFIG_FILE)
    config = Config(**told["config"])
    page = store.read_json(folder / PAGE_FILE) if (folder / PAGE_FILE).is_file() else {}
    run = Run(name, page.get("preset", "own"), config, folder, 0.0, owner=page.get("owner", ""))
    run.created = (folder / CONFIG_FILE).stat().st_mtime
    if "watched" in page:
        run.watched = watch_set(bundled("anchors"), bundled("validation", "select"))
        run.watched.looks.extend((int(step), np.array(places)) for step, places in page["watched"])
    run.steps = read_curve(folder)
    run.seconds = sum(step.seconds for step in run.steps)
    # A run in the paper's space belongs to whatever space of the model is shown.
    ours = config.space != "" or told["space"] == space
    run.usable = (folder / SOFT_PROMPT_FILE).is_file() and ours
    run.phase = "interrupted"
    if run.usable:
        run.phase = "done" if len(run.steps) == config.steps else "stopped"
    elif not ours:
        raise StoreError(f"{folder.name} was trained in another space ({told['space']}).")
    if (folder / MEASURED_FILE).is_file():
        measured = store.read_json(folder / MEASURED_FILE)
        rows = measured["rates"]
        run.region = Region(**measured["region"]) if "region" in measured else None
        from dro.evaluate import Rate

        # What was measured under the run's own prompt was written under the name that it had then.
        for row in rows:
            told = {("label" if k == "class" else k): v for k, v in row.items()}
            run.rates.append(
                Rate(**{**told, "prompt": told["prompt"] if told["prompt"] == config.init else name})
            )
    elif run.usable:
        run.message = text.NOT_MEASURED
    return run


def watch_set(anchors: QuerySet, held_out: QuerySet) -> Watched:
    """The first queries of each class, half of them trained on."""
    trained, unseen = anchors.limit(WATCHED).queries, held_out.limit(WATCHED).queries
    return Watched(
        QuerySet("watched", (*trained, *unseen)),
        np.repeat([True, False], [len(trained), len(unseen)]),
    )


def check(config: Config, model: ChatModel, limits: Limits = OWN) -> None:
    """Refuse settings that would keep the machine for hours, or that cannot be."""
    if config.steps > limits.most_steps:
        raise DataError(
            f"{config.steps} steps.", f"The page takes up to {limits.most_steps}; use the command line."
        )
    if config.batch > limits.most_batch:
        raise DataError(f"A batch of {config.batch}.", f"The page takes up to {limits.most_batch}.")
    odd = [name for name in config.queries.split("+") if name not in TRAINED_ON]
    if odd:
        raise DataError(f"A run cannot train on {odd[0][:40]!r}.", f"Use {' or '.join(TRAINED_ON)}.")
    if resolve(config.init, model).text is None:
        raise DataError(f"The prompt {config.init!r} has no tokens to train.", "Start from short.")


def expected_step(bench: Bench, config: Config) -> float:
    """Seconds of a step: forward, and backward to the inputs, which costs as much again."""
    prompt = len(bench.model.tokenizer(resolve(config.init, bench.model).text or "")["input_ids"]) + 8
    return 2.1 * (prompt + config.batch * _OWN_TOKENS) / bench.rate


def expected_seconds(bench: Bench, config: Config, speed: float = 1.0) -> float:
    """Seconds of a whole run: steps and watching, states before and after, held-out looks, answers."""
    from dro.generate import Decoding

    steps = config.steps * expected_step(bench, config) * speed * (1 + WATCH_SHARE)
    drawn = min(config.steps * config.batch, len(training_set(config)))
    looks = 1 + config.steps // config.validate_every if config.validate_every else 0
    read = drawn + _ANCHORS + 4 * WATCHED + looks * _HELD_OUT
    states = read * _OWN_TOKENS / bench.rate
    return steps + states + answer_seconds(bench, 2 * _HELD_OUT, Decoding().max_tokens)


def answer_seconds(bench: Bench, count: int, max_tokens: int) -> float:
    """Seconds that `count` answers are likely to take, each to a query of the usual length."""
    # Words come one at a time: a token of an answer costs about twice one that is read.
    return count * (_OWN_TOKENS + 2.0 * max_tokens) / bench.rate


_ANCHORS, _HELD_OUT = 200, 100
"""Queries of the bundled anchors, and of either half of validation."""
_OWN_TOKENS = 19.5
"""Mean length of the bundled queries and what follows them, in tokens of the default model."""


def measure_rate(model: ChatModel, prefixes: PrefixCache, queries: Sequence[str]) -> float:
    """Tokens a second through the model, the better of two passes (the first one warms up)."""
    from dro.states import last_token_states

    short = resolve("short", model)
    last_token_states(model, short, queries[:4], prefixes)
    best = float("inf")
    for _ in range(2):
        began = time.perf_counter()
        last_token_states(model, short, queries, prefixes)
        best = min(best, time.perf_counter() - began)
    return len(queries) * _OWN_TOKENS / best
