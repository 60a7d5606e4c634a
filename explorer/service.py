"""The one place that calls dro for the page: the loaded model, its space, its runs, and whose turn it is."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dro import recipes
from dro.data import QuerySet, check_query
from dro.errors import DataError, DroError
from dro.layers import Layers
from dro.models import Precision
from dro.prompts import STANDARD, SafetyPrompt, available, resolve
from dro.recipes import Config
from dro.refusal import PHRASES, judge
from dro.space import Point, Space, locate
from explorer import text, views
from explorer.evaluations import Evaluation, expected_seconds, start
from explorer.loading import Loaded, Loading, Stage
from explorer.runs import PRESETS, Run, Runs
from explorer.turns import Turns

MOST_PROMPTS, MOST_ANSWER_TOKENS, MOST_PROMPT_CHARACTERS = 12, 200, 4000
MOST_TOKENS = 1024
"""Longest query with its prompt: attention on the CPU takes memory with the square of it."""
SLICE = 0.4
"""Seconds of one turn at the model while answers are written."""
MOST_EVALUATIONS, KEPT_EVALUATIONS = 4, 16
"""Under way at a time, and kept in memory."""
BASE = "none"
"""Shifts are told against this condition."""


class Service:
    """What the page can ask for. Every method may raise a DroError with cause and remedy."""

    def __init__(self, model: str, precision: Precision) -> None:
        self._wanted = (model, precision)
        self._turns = Turns()
        self._loading = Loading(self._turns)
        self._preview = self._loading.preview(model, precision)
        self._preview_layers = self._loading.preview_layers(self._preview, precision)
        self._evaluations: dict[str, Evaluation] = {}

    def start_loading(self) -> None:
        """Begin to load the model; the page is served meanwhile."""
        self._loading.start(*self._wanted)

    # The model ---------------------------------------------------------------------------------------

    def load(self, model: str, precision: Precision) -> None:
        """Load another model in the background, and forget the one that is there."""
        if not model or not model.strip():
            raise DataError("No model is named.", "Pick one, or type a hub id or a folder.")
        if any(not each.over for each in self._evaluations.values()):
            raise DataError(
                "An evaluation is in progress on this model.", "Stop it first, or wait for its end."
            )
        preview = self._loading.preview(model.strip(), precision)
        self._loading.start(model.strip(), precision)
        self._preview = preview
        self._preview_layers = self._loading.preview_layers(preview, precision)

    def fit(self) -> None:
        """Fit a space for the loaded model in the background."""
        self._loading.start_fit()

    def read_layers(self) -> None:
        """Read the layers of the loaded model in the background."""
        self._loading.start_layers()

    def cancel_fit(self) -> None:
        """Stop fitting, or reading layers."""
        self._loading.cancel_fit()

    @property
    def stage(self) -> Stage:
        """Where loading stands."""
        return self._loading.stage

    @property
    def settled(self) -> bool:
        """Nothing is being loaded: the model is there, or it will not come."""
        return self._loading.loaded is not None or self._loading.failure is not None

    @property
    def fit_wanted(self) -> bool:
        """A model is loaded that has no space, and nothing is under way."""
        loaded = self._loading.loaded
        return loaded is not None and loaded.space is None and self.stage.kind in ("no space", "failed")

    @property
    def layers(self) -> Layers | None:
        """The layers that go with `space`, where they are known."""
        loaded = self._loading.loaded
        return loaded.layers if loaded else self._preview_layers

    @property
    def layers_wanted(self) -> bool:
        """A model with its space is there, its layers are not, and nothing is under way."""
        loaded = self._loading.loaded
        there = loaded is not None and loaded.space is not None and loaded.layers is None
        return there and self.stage.kind in ("ready", "failed")

    def fingerprint(self) -> str:
        """Changes when the model, its space or its usable runs do, so that pages know when to redraw."""
        return "|".join((self.stage.kind, self.space_name(), *self.prompt_names(), *self._phases()))

    def space_name(self) -> str:
        """The name of the space that can be drawn now; "" where there is none."""
        space = self.space
        return space.name if space else ""

    def trained(self) -> set[str]:
        """Prompts that were trained on this space's refusal probe."""
        runs = self._runs()
        return set(runs.names()) if runs else set()

    @property
    def space(self) -> Space | None:
        """The space that can be drawn now, if any."""
        loaded = self._loading.loaded
        return loaded.space if loaded else self._preview

    # Pictures ----------------------------------------------------------------------------------------

    def prompt_names(self) -> list[str]:
        """Prompts that can be ticked: the standard ones of this model, then finished runs."""
        loaded = self._loading.loaded
        if loaded is None:
            return [n for n in STANDARD if self.space is None or n in self.space.anchors.conditions]
        return [*available(loaded.model), *(loaded.runs.usable() if loaded.runs else ())]

    def geometry(self) -> views.Geometry | None:
        """The space as pictures need it; None while there is none."""
        space = self.space
        if space is None:
            return None
        refusal = space.refusal
        return views.Geometry(
            space.harmfulness.weight, space.harmfulness.bias,
            None if refusal is None else refusal.weight, 0.0 if refusal is None else refusal.bias,
            space.projection.explained, space.anchors.coordinates,
        )  # fmt: skip

    def clouds(self, names: Sequence[str]) -> list[views.Cloud]:
        """The anchors under those of the prompts that they are known under, in order."""
        space = self.space
        if space is None:
            return []
        anchors, runs = space.anchors, self._runs()
        result = []
        for name in names:
            if name in anchors.conditions:
                rows = anchors.rows(name)
                coordinates, rates = anchors.coordinates[rows], anchors.refusal_rate[rows]
            elif runs and name in runs.usable():
                states = runs.anchor_states(name)
                if states is None:
                    continue
                coordinates = space.projection.coordinates(states)
                rates = np.full(len(coordinates), np.nan)
            else:
                continue
            result.append(views.Cloud(name, coordinates, anchors.harmful, rates, anchors.queries))
        return result

    # Queries -----------------------------------------------------------------------------------------

    def locate(self, query: str, prompts: Sequence[str]) -> dict[str, Any]:
        """Where `query` lies under each prompt: the same json as `python -m dro locate --json`."""
        loaded = self._with_space()
        points = self.points(query, prompts or available(loaded.model))
        assert loaded.space is not None
        return {"space": loaded.space.name, "points": [point.as_dict() for point in points]}

    def points(self, query: str, prompts: Sequence[str]) -> list[Point]:
        """Where `query` lies under each prompt."""
        check_query(query)
        loaded = self._with_space()
        chosen = [self._resolve(name, loaded) for name in _few(prompts)]
        self._check_length(loaded, chosen, query)
        assert loaded.space is not None
        with self._turns.visitor():
            self._check_same(loaded)
            return locate(loaded.space, loaded.model, query, chosen, loaded.prefixes)

    def shift(self, point: Point, base: Point) -> float | None:
        """How far `point` lies from `base` along the refusal direction, in standard deviations of the
        anchors along it; None without a refusal probe."""
        space = self._with_space().space
        if space is None or space.refusal is None:
            return None
        spread = float((space.anchors.coordinates @ space.refusal.weight).std())
        return ((point.refusal_logit or 0.0) - (base.refusal_logit or 0.0)) / spread

    def check(self, query: str, prompts: Sequence[str]) -> None:
        """Raise what is wrong with a query and its prompts before anything waits for the model."""
        check_query(query)
        for name in _few(prompts):
            self.check_prompt(name)

    def check_prompt(self, name: str) -> None:
        """Raise where a visitor may not use this prompt, or where it is empty."""
        loaded = self._loading.loaded
        if loaded is not None:
            self._resolve(name, loaded)

    def answer(
        self, query: str, prompt: str, max_tokens: int = 24, seed: int | None = None
    ) -> dict[str, str]:
        """What the model says: the same json as `python -m dro answer --json`."""
        from dro.generate import Decoding, answers

        check_query(query)
        loaded = self._need()
        most = min(int(max_tokens), MOST_ANSWER_TOKENS)
        decoding = Decoding(most) if seed is None else Decoding(most, temperature=1.0, seed=int(seed))
        chosen = self._resolve(prompt, loaded)
        self._check_length(loaded, [chosen], query)
        with self._turns.visitor():
            self._check_same(loaded)
            said = answers(loaded.model, chosen, [query], decoding, loaded.prefixes)[0][0]
        return {"prompt": prompt, "answer": said, "verdict": judge(said).outcome}

    def stream_answers(
        self,
        query: str,
        prompts: Sequence[str],
        max_tokens: int,
        current: Callable[[], bool] = lambda: True,
    ) -> Iterator[list[tuple[str, str | None]]]:
        """Answers under all prompts side by side, until they end or `current` is false.

        Yields (text so far, verdict or None while it is being written) in the order of prompts. The
        turn is kept for a slice of a second, so that answers move on while a run trains.
        """
        from dro.generate import Decoding, stream_answers

        check_query(query)
        loaded = self._need()
        decoding = Decoding(min(int(max_tokens), MOST_ANSWER_TOKENS))
        chosen = [self._resolve(name, loaded) for name in _few(prompts)]
        self._check_length(loaded, chosen, query)
        stream = stream_answers(loaded.model, chosen, query, decoding, loaded.prefixes)
        told: list[tuple[str, bool]] | None = []
        while told is not None:
            with self._turns.visitor():
                self._check_same(loaded)
                began = time.monotonic()
                while time.monotonic() - began < SLICE and current():
                    told = next(stream, None)
                    if told is None:
                        break
                    latest = told
            if not current():
                return
            yield [(said, judge(said).outcome if ended else None) for said, ended in latest]

    @property
    def judge_name(self) -> str:
        """Who gives the verdicts."""
        return PHRASES

    # Runs --------------------------------------------------------------------------------------------

    def configuration(self, preset: str, **changes: Any) -> Config:
        """A preset with changes; DataError names a setting that cannot be."""
        if preset not in PRESETS:
            raise DataError(f"There is no preset {preset!r}.", f"Use {', '.join(PRESETS)}.")
        return recipes.config(preset, **{"validate_every": PRESETS[preset].validate_every, **changes})

    def expect(self, config: Config) -> float | None:
        """Seconds a run is likely to take; None while the model is loading."""
        runs = self._runs()
        if runs is None:
            return None
        self._with_space().space.need_refusal()  # type: ignore[union-attr]
        _public(config.init, runs)
        return runs.expect(config)

    def start_run(self, config: Config, preset: str) -> Run:
        """Queue a run."""
        self._with_space().space.need_refusal()  # type: ignore[union-attr]
        _public(config.init, self._runs_needed())
        return self._runs_needed().start(config, preset)

    def resume_run(self, name: str) -> Run:
        """Go on with an interrupted run."""
        return self._runs_needed().resume(name)

    def run(self, name: str) -> Run:
        """A run by its name."""
        return self._runs_needed().get(name)

    def run_names(self) -> list[str]:
        """All runs of the loaded model, oldest first."""
        runs = self._runs()
        return runs.names() if runs else []

    def active_run(self) -> Run | None:
        """The run in progress, or the next one."""
        runs = self._runs()
        return runs.active() if runs else None

    # Evaluations -------------------------------------------------------------------------------------

    def evaluation_cost(self, prompts: Sequence[str], sets: Sequence[QuerySet]) -> float | None:
        """Seconds an evaluation is likely to take; None while the model is loading."""
        loaded = self._loading.loaded
        if loaded is None or loaded.runs is None:
            return None
        return expected_seconds(loaded.runs.bench, len(prompts), sum(len(each) for each in sets))

    def start_evaluation(self, prompts: Sequence[str], sets: Sequence[QuerySet]) -> str:
        """Begin to evaluate prompts in the background; gives the evaluation's name."""
        loaded = self._with_space()
        assert loaded.runs is not None
        chosen = [self._resolve(name, loaded) for name in _few(prompts)]
        if sum(not each.over for each in self._evaluations.values()) >= MOST_EVALUATIONS:
            raise DataError(f"{MOST_EVALUATIONS} evaluations are under way.", "Wait for one to end.")
        made = start(loaded.runs.bench, self._turns, chosen, sets)
        name = secrets.token_hex(8)
        self._evaluations[name] = made
        for old in list(self._evaluations)[:-KEPT_EVALUATIONS]:
            if self._evaluations[old].over:
                del self._evaluations[old]
        return name

    def evaluation(self, name: str) -> Evaluation | None:
        """An evaluation by its name; None where it is not kept any more."""
        return self._evaluations.get(name)

    # Inside ------------------------------------------------------------------------------------------

    def _phases(self) -> list[str]:
        return [f"{name}:{self.run(name).phase}" for name in self.run_names()]

    def _need(self) -> Loaded:
        loaded = self._loading.loaded
        if loaded is not None:
            return loaded
        if self._loading.failure is not None:
            raise self._loading.failure
        raise DroError(f"{text.LOADING}.", text.WAIT)

    def _check_same(self, loaded: Loaded) -> None:
        """Raise where the model was changed while somebody waited for a turn."""
        if self._loading.loaded is not loaded:
            raise DroError("The model was changed meanwhile.", "Ask again.")

    def _check_length(self, loaded: Loaded, prompts: Sequence[SafetyPrompt], query: str) -> None:
        from dro.states import own_ids, prefix_ids

        for prompt in prompts:
            length = len(prefix_ids(loaded.model, prompt)) + len(own_ids(loaded.model, prompt, [query])[0])
            if length > MOST_TOKENS:
                raise DataError(
                    f"The query and its prompt have {length:,} tokens; the page takes up to {MOST_TOKENS:,}.",
                    "Shorten them, or use the command line.",
                )

    def _with_space(self) -> Loaded:
        loaded = self._need()
        if loaded.space is None:
            raise DroError(f"There is no space for {loaded.model.name} yet.", text.FIT_FIRST)
        return loaded

    def _runs(self) -> Runs | None:
        loaded = self._loading.loaded
        return loaded.runs if loaded else None

    def _runs_needed(self) -> Runs:
        runs = self._with_space().runs
        assert runs is not None
        return runs

    def _resolve(self, name: str, loaded: Loaded) -> SafetyPrompt:
        if loaded.runs and isinstance(name, str) and name in loaded.runs.usable():
            return loaded.runs.prompt(name)
        return resolve(_public(name, loaded.runs), loaded.model)


def health_of(space: Space) -> list[dict[str, Any]]:
    """The space's health report."""
    return [dict(check) for check in space.health]


def provenance_of(space: Space) -> dict[str, Any]:
    """Where the space comes from."""
    return {"name": space.name, **dict(space.provenance)}


def _few(prompts: Sequence[str]) -> Sequence[str]:
    if not isinstance(prompts, (list, tuple)) or not 1 <= len(prompts) <= MOST_PROMPTS:
        raise DataError("No prompt is chosen, or too many.", f"Tick 1 to {MOST_PROMPTS} safety prompts.")
    return prompts


def _public(name: object, runs: Runs | None) -> str:
    """A prompt's name as a visitor may give it: no paths, which only the command line reads."""
    if isinstance(name, str) and len(name) <= MOST_PROMPT_CHARACTERS:
        if name in STANDARD or name.startswith(("template+", "text:")):
            return name
        if runs and name in runs.usable():
            raise DataError(f"{name} is a trained prompt.", "Start from a prompt that is text.")
        if runs and name in runs.names():
            raise DataError(f"{name} has no prompt yet.", "Wait until it is saved, or train it anew.")
    raise DataError(
        f"There is no prompt {str(name)[:80]!r}.",
        f"Use {', '.join(STANDARD)}, the name of a run, or text: and your own words.",
    )
