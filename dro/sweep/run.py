"""A sweep in a folder: trials go on piece by piece on an engine's workers, and hopeless ones are stopped.

OUT/sweep.json says what is tried, and refuses another sweep; OUT/MODEL/TRIAL is the trial's run folder,
written after each piece. What was stopped is not written down: it follows from the curves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dro import run_folder, store
from dro.engine import Call, Engine
from dro.errors import StoreError
from dro.prompts import SOFT_PROMPT_FILE
from dro.sweep import trial as work
from dro.sweep.grid import Plan, Trial
from dro.sweep.halving import score, survivors
from dro.sweep.trial import Look, Piece

SWEEP_FILE, ENDED_FILE, EXAMINED_FILE = "sweep.json", "ended.json", "held_out.json"
WAITING, TRAINING, STOPPED, DONE, FAILED = "waiting", "training", "stopped", "done", "failed"
OVER = (STOPPED, DONE, FAILED)


@dataclass
class Row:
    """A trial as the table shows it. looks: what validation told of it, in order. message: why it failed."""

    trial: Trial
    folder: Path
    looks: list[Look]
    step: int = 0
    state: str = WAITING
    message: str = ""

    @property
    def best(self) -> Look | None:
        """The look whose step is kept; the first of equals, as a run chooses."""
        return max(self.looks, key=lambda look: (look.score, look.step), default=None)


@dataclass(frozen=True)
class Outcome:
    """The trials of a model. best: the one with the highest score among those that are done, if any.

    examined: what it does on the half of validation that chose nothing (see `held_out`).
    """

    ground: dict[str, str]
    rows: list[Row]
    best: Row | None
    examined: dict[str, Any] | None


Show = Callable[[Sequence[Row]], None]


def begin(out: Path, plan: Plan, models: tuple[str, ...], space: Path | None) -> None:
    """Take a folder for a sweep, or take it up again; held until this process ends, or `run_folder.release`.

    Raises
    ------
    StoreError: it holds other files or another sweep, or another process works on it.
    """
    described = json.loads(json.dumps(plan.as_dict(models, space)))
    path = out / SWEEP_FILE
    if not path.exists() and out.is_dir() and {each.name for each in out.iterdir()} - {run_folder.LOCK_FILE}:
        raise StoreError(f"{out} holds other files.", "Name an empty or new folder.")
    run_folder.hold(out)
    if not path.exists():
        store.write_json(path, described)
        return
    there = store.read_json(path)
    if there != described:
        odd = [key for key in described if described[key] != there.get(key)]
        raise StoreError(f"{out} holds another sweep (other {', '.join(odd)}).",
                         "Name a new folder, or repeat that sweep's settings to go on with it.")  # fmt: skip


def run(
    engine: Engine, plan: Plan, folder: Path, space: Path | None = None, show: Show = lambda rows: None
) -> Outcome:
    """Train what is missing of one model's trials in `folder`, and examine the best."""
    ground = engine.ask(work.ground, space, plan)
    weight = plan.config(plan.trials()[0]).harmless_weight
    rows = {trial: _read(trial, folder / trial.name, weight) for trial in plan.trials()}
    alive = list(rows)
    show(list(rows.values()))
    for rung in plan.rungs():

        def piece(row: Row, rung: int = rung) -> list[Call]:
            """The next piece of a trial, up to its next look."""
            if row.state == FAILED or row.step >= rung:
                return []
            row.state = TRAINING
            until = min(rung, (row.step // plan.look + 1) * plan.look)
            # A call's key is its own: a trial may need several calls up to a rung.
            key = f"{row.trial.name} to step {until}"
            return [Call(key, work.advance, (space, plan, row.trial, _files(row.folder), until))]

        def after(call: Call, found: Piece, piece: Callable[[Row], list[Call]] = piece) -> list[Call]:
            row = rows[call.arguments[2]]
            _write(row, found)
            rows[row.trial] = row = _read(row.trial, row.folder, weight)
            calls = piece(row)
            show(list(rows.values()))
            return calls

        engine.work([call for trial in alive for call in piece(rows[trial])], after)
        if rung < plan.steps:
            better = survivors(alive, {trial: rows[trial].looks for trial in alive}, rung)
            for trial in set(alive) - set(better):
                if rows[trial].state != FAILED:
                    rows[trial].state = STOPPED
            alive = better
    show(list(rows.values()))
    done = [row for row in rows.values() if row.state == DONE and row.looks]
    best = max(done, key=lambda row: score(row.looks, plan.steps), default=None)
    examined = None
    if best is not None:
        path = best.folder / EXAMINED_FILE
        if not path.exists():
            store.write_json(path, engine.ask(work.examined, space, plan, best.trial, _files(best.folder)))
        examined = store.read_json(path)
    return Outcome(ground, list(rows.values()), best, examined)


def _read(trial: Trial, folder: Path, harmless_weight: float) -> Row:
    """A trial as its folder tells."""
    curve = run_folder.read_curve(folder)
    row = Row(trial, folder, work.looks(folder, harmless_weight), len(curve))
    if (folder / ENDED_FILE).exists():
        row.state, row.message = FAILED, str(store.read_json(folder / ENDED_FILE)["message"])
    elif (folder / SOFT_PROMPT_FILE).exists():
        row.state = DONE
    elif curve:
        row.state = TRAINING
    return row


def _files(folder: Path) -> dict[str, bytes]:
    """What a worker needs to go on: the run itself, nothing of ours."""
    if not (folder / run_folder.CHECKPOINT_FILE).exists():
        return {}
    left = {ENDED_FILE, EXAMINED_FILE, run_folder.LOCK_FILE, *(path.name for path in store.leftovers(folder))}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in left}


def _write(row: Row, found: Piece) -> None:
    """Put a piece on disk so that a kill leaves a run that goes on: the checkpoint decides, and what says
    that a trial is over comes last."""
    last = (run_folder.STEPS_FILE, run_folder.CHECKPOINT_FILE, SOFT_PROMPT_FILE)
    for name in sorted(found.files, key=lambda name: (name in last, last.index(name) if name in last else 0)):
        path = row.folder / name
        if not path.exists() or path.read_bytes() != found.files[name]:
            store.write_bytes(path, found.files[name])
    if found.ended:
        store.write_json(row.folder / ENDED_FILE, {"message": found.ended})
