"""The tasks for a lent GPU (see `gpu`), and a run whose updates are taken there, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dro.data import QuerySet, bundled
from dro.prompts import SafetyPrompt, resolve
from dro.recipes import Config, training_set
from dro.run_folder import Step, read_curve
from explorer import gpu
from explorer.gpu import Bench

if TYPE_CHECKING:
    from dro.evaluate import Report
    from dro.held_out import HeldOut
    from dro.optimise import Optimisation
    from dro.vectors import Vector

_OWN, _PROMPT = 20, 150
"""Tokens of a query and of a long prompt, as expected beforehand."""
_ANSWER = 24
_PASSES = 3
"""Of a step, in passes without gradients."""


def step_seconds(config: Config) -> float:
    """A training step, as expected beforehand."""
    return _PASSES * (_PROMPT + config.batch * _OWN) / gpu.RATE + 0.1


def piece(config: Config) -> int:
    """Steps of one call: as many as fit beside what has to be done before the first."""
    return max(1, int((gpu.MOST - gpu.READY - 1 - _before(config)) / step_seconds(config)))


def _before(config: Config) -> float:
    """States before training, of the queries that all steps need, and of those that are looked at."""
    drawn = (
        0 if config.residual_on == "anchors" else min(config.steps * config.batch, len(training_set(config)))
    )
    return (drawn + 400) * _OWN / gpu.RATE


def _answering(queries: int) -> float:
    """Answers to so many queries: read, then written a word at a time, a hundred and more at once."""
    return queries * _OWN / gpu.RATE + gpu.WORD * _ANSWER * (1 + queries // 100)


# Tasks.


@gpu.task(lambda asked: len(asked) * (_PROMPT + _OWN) / gpu.RATE)
def places(bench: Bench, asked: Sequence[tuple[SafetyPrompt, str]]) -> np.ndarray:
    """States of queries, each under its prompt, (n, d_model)."""
    from dro.states import states_of

    return states_of(bench.model, asked, bench.prefixes)


@gpu.task(lambda asked: len(asked) * (_PROMPT + _OWN) / gpu.RATE)
def openings(bench: Bench, asked: Sequence[tuple[SafetyPrompt, str]]) -> list[list[tuple[str, float]]]:
    """The likeliest first tokens of each answer."""
    from dro.first_token import likeliest
    from dro.states import states_of

    return likeliest(bench.model, states_of(bench.model, asked, bench.prefixes))


@gpu.task(lambda asked, longest, seed: len(asked) * (_PROMPT + _OWN) / gpu.RATE + gpu.WORD * max(longest))
def words(
    bench: Bench, asked: Sequence[tuple[SafetyPrompt, str]], longest: Sequence[int], seed: int | None
) -> Iterator[list[tuple[str, bool]]]:
    """Answers side by side, a token of each at a time."""
    from dro.generate import stream_asked

    yield from stream_asked(bench.model, asked, decoding_of(longest, seed), bench.prefixes, longest)


@gpu.task(lambda prompt, texts: (_PROMPT + len(texts) * _OWN) / gpu.RATE)
def states(bench: Bench, prompt: SafetyPrompt, texts: Sequence[str]) -> np.ndarray:
    """States of queries under one prompt, (n, d_model)."""
    from dro.states import last_token_states

    return last_token_states(bench.model, prompt, texts, None)


@gpu.task(lambda prompt: 2.0)
def described(bench: Bench, prompt: SafetyPrompt) -> list[Vector]:
    """The vectors of a trained prompt."""
    from dro.vectors import describe

    return describe(bench.model, prompt)


@gpu.task(lambda prompt, sets: _answering(sum(map(len, sets))))
def answered(bench: Bench, prompt: SafetyPrompt, sets: Sequence[QuerySet]) -> Report:
    """An evaluation of one prompt."""
    from dro.evaluate import evaluate
    from dro.generate import Decoding

    return evaluate(bench.model, [prompt], sets, Decoding())


@gpu.task(lambda prompt: _answering(100) + 100 * _OWN / gpu.RATE)
def held_out(bench: Bench, prompt: SafetyPrompt) -> HeldOut:
    """What every run reports."""
    from dro import held_out

    return held_out.report(bench.model, bench.space, prompt)


@gpu.task(lambda config, folder: 0.0)
def begun(bench: Bench, config: Config, folder: Path) -> None:
    """Take the folder for a run, or refuse."""
    _opened(bench, config, folder).close()


@gpu.task(lambda config, folder, until, count: _before(config) + count * step_seconds(config))
def steps(bench: Bench, config: Config, folder: Path, until: int, count: int) -> Iterator[Step | str]:
    """Updates up to the step `until`, `count` of them; each is on disk when told. Last, why it diverged."""
    run = _opened(bench, config, folder)
    try:
        for step in run.steps():
            yield step
            if step.step >= until:
                break
        if run.diverged:
            yield run.diverged
    finally:
        run.close()


@gpu.task(lambda config, folder: 400 * _OWN / gpu.RATE)
def finished(bench: Bench, config: Config, folder: Path) -> SafetyPrompt:
    """Write the run's prompt."""
    return _opened(bench, config, folder).finish()


class LentRun:
    """An `Optimisation` as the page uses one; it is opened anew for every piece, from its folder."""

    def __init__(self, bench: Bench, config: Config, folder: Path) -> None:
        self._bench, self._config, self._folder = bench, config, folder
        self.diverged = ""
        gpu.ask(begun, config, folder)

    @property
    def curve(self) -> list[Step]:
        return read_curve(self._folder)

    def steps(self) -> Iterator[Step]:
        """The steps that are left."""
        done, most = len(self.curve), piece(self._config)
        while done < self._config.steps and not self.diverged:
            until = min(self._config.steps, done + most)
            for told in gpu.follow(steps, self._config, self._folder, until, until - done):
                if isinstance(told, str):
                    self.diverged = told
                else:
                    done = told.step
                    yield told

    def prompt(self) -> SafetyPrompt:
        """The prompt as it stands, from the checkpoint."""
        from safetensors.numpy import load_file

        from dro.run_folder import CHECKPOINT_FILE

        text = resolve(self._config.init, self._bench.model).text
        return SafetyPrompt(str(self._folder), text, load_file(self._folder / CHECKPOINT_FILE)["vectors"])

    def finish(self, usable: Callable[[SafetyPrompt], None] = lambda _: None) -> SafetyPrompt:
        """Write the prompt of the chosen step; `usable` is called with it."""
        prompt = gpu.ask(finished, self._config, self._folder)
        usable(prompt)
        return prompt

    def when_idle(self, checkpoint: Callable[[], None]) -> None:
        """Pieces end by themselves."""


def decoding_of(longest: Sequence[int], seed: int | None) -> Any:
    """How visitors' answers are chosen: greedily without a seed."""
    from dro.generate import Decoding

    most = max(longest)
    return Decoding(most) if seed is None else Decoding(most, temperature=1.0, seed=seed)


def _opened(bench: Bench, config: Config, folder: Path) -> Optimisation:
    from dro.optimise import Optimisation
    from dro.space import find

    there = find(bench.model, recipe=config.space) if config.space else bench.space
    unseen = bundled("validation", "select") if config.validate_every else None
    return Optimisation(bench.model, there, config, training_set(config), unseen, folder)
