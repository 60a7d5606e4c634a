"""One run from its first step to its measured end, in turns with whoever asks the model something."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dro import store
from dro.data import bundled
from dro.prompts import SafetyPrompt, resolve
from dro.recipes import Config, training_set
from dro.run_folder import hold
from dro.space import Space, find
from explorer import gpu, lent, text
from explorer.estimates import expected_seconds, expected_step
from explorer.gpu import Bench
from explorer.lent import LentRun
from explorer.run import MEASURED_FILE, PAGE_FILE, WATCH_SHARE, Run, Watched, watch_set
from explorer.turns import Turns

if TYPE_CHECKING:
    # torch comes with these, and the page is drawn without it.
    from dro.evaluate import Rate
    from dro.optimise import Optimisation


class StopRequested(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked the run to stop."""


class Training:
    """Trains the runs of one loaded model; learns how fast steps are and what prompts did before training."""

    def __init__(self, bench: Bench, turns: Turns) -> None:
        self._bench, self._turns = bench, turns
        self._speed = 1.0
        """How much longer steps take than foreseen, learned from the last run."""
        self._before: dict[str, list[Rate]] = {}

    def expect(self, config: Config) -> float:
        """Seconds that a run with these settings is likely to take, from click to the measured end."""
        return expected_seconds(self._bench, config, self._speed)

    def space(self, config: Config) -> Space:
        """The space whose directions a run is trained on; pictures are always of the model's own."""
        return find(self._bench.model, recipe=config.space) if config.space else self._bench.space

    def take(self, run: Run) -> None:
        """Train, save, measure; called with the turn, which it gives away between model passes.

        It holds the run's folder, which whoever called it releases.
        """
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

        run.enter("preparing")
        anchors = bundled("anchors")
        run.watched = watch_set(anchors, bundled("validation", "select"))
        try:
            self._look(run, run.watched, resolve(run.config.init, bench.model), pause)
            unseen = bundled("validation", "select") if run.config.validate_every else None
            optimisation = LentRun(bench, run.config, run.folder) if gpu.LENT else Optimisation(
                bench.model, self.space(run.config), run.config, training_set(run.config), unseen,
                run.folder, checkpoint=pause,
            )  # fmt: skip
            store.write_json(run.folder / PAGE_FILE, {"preset": run.preset, "owner": run.owner})
            run.steps = optimisation.curve
            self._train(run, optimisation, run.watched, pause)
        except StopRequested:
            stopped = True
        if optimisation is None or not run.steps:
            return run.end_early()
        run.enter("saving")
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
        return run.enter("stopped" if stopped or optimisation.diverged else "done")

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
        run.enter("measuring")

    def _train(
        self, run: Run, optimisation: Optimisation | LentRun, watched: Watched, pause: Callable
    ) -> None:
        began, watching, last_look = time.monotonic(), 0.0, 0.0
        for step in optimisation.steps():
            if not run.steps:
                run.enter("training")
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
