"""The one place that calls dro for the page: the loaded model, its space, its runs, and whose turn it is."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dro import recipes
from dro.data import QuerySet, check_query
from dro.errors import DataError, DroError
from dro.layers import Layers
from dro.models import Precision
from dro.neighbour_map import MapSettings
from dro.prompts import HUMAN, STANDARD, SafetyPrompt, available, resolve
from dro.recipes import Config
from dro.refusal import PHRASES, judge
from dro.space import Point, Space
from explorer import gpu, lent, text, views
from explorer.desk import Desk, Ticket, waiting_text
from explorer.evaluations import Evaluation, Evaluations, expected_seconds
from explorer.limits import OWN, Limits
from explorer.loading import Loaded, Loading, Stage
from explorer.maps import MapJob, Maps
from explorer.model_work import ModelWork, OpeningsWork
from explorer.packages import package
from explorer.requested import few, own_lengths, public, whole
from explorer.run import Run
from explorer.runs import PRESETS, Runs
from explorer.turns import Turns, Visitor

if TYPE_CHECKING:
    # torch comes with this, and the page is drawn without it.
    from dro.vectors import Vector

KEPT_VECTORS = 16
"""Prompts whose vectors' descriptions are kept in memory."""
BASE = "none"
"""Shifts are told against this condition."""


class Service:
    """What the page can ask for. Every method may raise a DroError with cause and remedy."""

    def __init__(
        self,
        model: str,
        precision: Precision,
        limits: Limits = OWN,
        visitor: Callable[[], Visitor] = Visitor,
    ) -> None:
        """limits: what visitors may ask for. visitor: tells who is asking."""
        self.limits, self._visitor = limits, visitor
        self._wanted = (model, precision)
        self._turns = Turns(limits.patience)
        self._desk = Desk(self._turns, limits.questions, limits.questions_each)
        self._loading = Loading(self._turns, limits)
        self._work: ModelWork | None = None
        self._openings: OpeningsWork | None = None
        self._maps = Maps(self._turns, limits)
        self._followers = threading.Semaphore(limits.followers)
        self._preview = self._loading.preview(model, precision)
        self._preview_layers = self._loading.preview_layers(self._preview, precision)
        self._evaluations = Evaluations(self._turns, limits)
        self._packages: dict[tuple[Path, int], Path] = {}
        self._vectors: dict[str, list[Vector]] = {}

    def start_loading(self) -> None:
        """Begin to load the model; the page is served meanwhile."""
        self._loading.start(*self._wanted)

    # The model ---------------------------------------------------------------------------------------

    def load(self, model: str, precision: Precision) -> None:
        """Load another model in the background, and forget the one that is there."""
        if not model or not model.strip():
            raise DataError("No model is named.", "Pick one, or type a hub id or a folder.")
        if model.strip() != self._wanted[0]:
            self.limits.check_model(model.strip())
        if self._evaluations.going:
            raise DataError(
                "An evaluation is in progress on this model.", "Stop it first, or wait for its end."
            )
        preview = self._loading.preview(model.strip(), precision)
        self._loading.start(model.strip(), precision)
        self._preview = preview
        self._preview_layers = self._loading.preview_layers(preview, precision)

    def fit(self) -> None:
        """Fit a space for the loaded model in the background."""
        if not self.limits.fitting:
            raise DataError("Visitors cannot fit spaces here.", "Ask whoever runs this server.")
        self._loading.start_fit()

    def read_layers(self) -> None:
        """Read the layers of the loaded model in the background."""
        if not self.limits.fitting:
            raise DataError("Visitors cannot read layers here.", "Ask whoever runs this server.")
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
        spaceless = loaded is not None and loaded.space is None
        return self.limits.fitting and spaceless and self.stage.kind in ("no space", "failed")

    @property
    def layers(self) -> Layers | None:
        """The layers that go with `space`, where they are known."""
        loaded = self._loading.loaded
        return loaded.layers if loaded else self._preview_layers

    @property
    def layers_wanted(self) -> bool:
        """A model with its space is there, its layers are not, nothing is under way; who visits may read."""
        loaded = self._loading.loaded
        there = loaded is not None and loaded.space is not None and loaded.layers is None
        return self.limits.fitting and there and self.stage.kind in ("ready", "failed")

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

    def geometry(
        self, pair: tuple[int, int] = (0, 1), settings: MapSettings | None = None
    ) -> views.Geometry | None:
        """The space as pictures need it; None while there is none. pair: components of the axes "pair".
        settings: of the map, where one is wanted that is there."""
        space = self.space
        if space is None:
            return None
        refusal = space.refusal
        return views.Geometry(
            space.harmfulness.weight, space.harmfulness.bias,
            None if refusal is None else refusal.weight, 0.0 if refusal is None else refusal.bias,
            space.projection.explained, space.anchors.coordinates, pair,
            None if settings is None else self._maps.get(space, settings),
        )  # fmt: skip

    def start_map(self, settings: MapSettings) -> MapJob:
        """Fit a map of the space in the background, or find the one that is there."""
        space = self.space
        if space is None:
            raise DroError(f"{self.stage.text}.", text.WAIT)
        return self._maps.start(space, settings)

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
        ticket = self.place(query, prompts)
        self.wait(ticket)
        return list(ticket.told)

    def place(self, query: str, prompts: Sequence[str]) -> Ticket:
        """Put a query into the line; `lines` follows it, and then its `told` are the points."""
        check_query(query)
        loaded = self._with_space()
        return self._desk.join(self._ticket(loaded, query, prompts))

    def ask(self, query: str, prompts: Sequence[str], max_tokens: int) -> Ticket:
        """Put a query into the line to be answered; its `told` become (answer, ended)."""
        check_query(query)
        most = self._longest(max_tokens)
        return self._desk.join(self._ticket(self._need(), query, prompts, most))

    def wait(self, ticket: Ticket) -> None:
        """Until a question is done with; raises what went wrong."""
        for _ in self._desk.follow(ticket):
            pass

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for this question any more."""
        self._desk.leave(ticket)

    def openings(self, query: str, prompts: Sequence[str]) -> list[list[tuple[str, float]]]:
        """The ten likeliest first tokens of the answer under each prompt, with their probabilities."""
        check_query(query)
        loaded = self._need()
        ticket = self._ticket(loaded, query, prompts)
        if self._openings is None or self._openings.loaded is not loaded:
            self._openings = OpeningsWork(loaded, self._check_same)
        ticket.work = self._openings
        self.wait(self._desk.join(ticket))
        return list(ticket.told)

    def lines(self, ticket: Ticket) -> Iterator[str]:
        """Place in the line and expected time, in words, while a query waits; ends when it is placed."""
        for _ in self._desk.follow(ticket):
            if not ticket.begun:
                yield waiting_text(*self._desk.line(ticket))

    def shift(self, point: Point, base: Point) -> float | None:
        """How far `point` lies from `base` along the refusal direction, in standard deviations of the
        anchors along it; None without a refusal probe."""
        space = self._with_space().space
        if space is None or space.refusal is None:
            return None
        spread = float((space.anchors.coordinates @ space.refusal.weight).std())
        return ((point.refusal_logit or 0.0) - (base.refusal_logit or 0.0)) / spread

    def text_names(self) -> list[str]:
        """Prompts that are words, and can be edited."""
        return [name for name in self.prompt_names() if name in HUMAN or name == "template"]

    def words_of(self, name: str) -> str:
        """The words of one of `text_names`; DataError for any other."""
        if not isinstance(name, str) or name not in self.text_names():
            raise DataError("That prompt has no words.", "Choose one of the list.")
        return HUMAN[name] if name in HUMAN else self._resolve(name, self._need()).text or ""

    def check(self, query: str, prompts: Sequence[str]) -> None:
        """Raise what is wrong with a query and its prompts before anything waits for the model."""
        check_query(query)
        for name in few(prompts):
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
        check_query(query)
        most = self._longest(max_tokens)
        chosen_seed = None if seed is None else whole("seed", seed, 0, 2**63 - 1)
        ticket = self._ticket(self._need(), query, [prompt], most, chosen_seed)
        self.wait(self._desk.join(ticket))
        said = ticket.told[0][0].strip()
        return {"prompt": prompt, "answer": said, "verdict": judge(said).outcome}

    def stream_answers(
        self,
        query: str,
        prompts: Sequence[str],
        max_tokens: int,
        current: Callable[[], bool] = lambda: True,
    ) -> Iterator[list[tuple[str, str | None]]]:
        """Answers under all prompts side by side, until they end or `current` is false.

        Yields (text so far, verdict or None while it is being written) in the order of prompts.
        """
        check_query(query)
        most = self._longest(max_tokens)
        ticket = self._ticket(self._need(), query, prompts, most)
        ticket.wanted = current
        for _ in self._desk.follow(self._desk.join(ticket)):
            if not current():
                return
            if ticket.told:
                yield [(said, judge(said).outcome if ended else None) for said, ended in list(ticket.told)]

    @property
    def judge_name(self) -> str:
        """Who gives the verdicts."""
        return PHRASES

    # Runs --------------------------------------------------------------------------------------------

    def configuration(self, preset: str, **changes: Any) -> Config:
        """A preset with changes; DataError names a setting that cannot be."""
        if not isinstance(preset, str) or preset not in PRESETS:
            raise DataError(f"There is no preset {str(preset)[:40]!r}.", f"Use {', '.join(PRESETS)}.")
        self.limits.check_preset(preset)
        return recipes.config(preset, **{"validate_every": PRESETS[preset].validate_every, **changes})

    def expect(self, config: Config) -> float | None:
        """Seconds a run is likely to take; None while the model is loading."""
        runs = self._runs()
        if runs is None:
            return None
        self._with_space().space.need_refusal()  # type: ignore[union-attr]
        public(config.init, runs)
        return runs.expect(config)

    def start_run(self, config: Config, preset: str) -> tuple[Run, str]:
        """Queue a run; gives it and the key that stops it ("" where anybody may)."""
        self._with_space().space.need_refusal()  # type: ignore[union-attr]
        public(config.init, self._runs_needed())
        key = secrets.token_urlsafe(12) if self.limits.owned else ""
        return self._runs_needed().start(config, preset, self._visitor(), key), key

    def resume_run(self, name: str, key: str = "") -> Run:
        """Go on with an interrupted run."""
        self._check_owner(self.run(name), key)
        return self._runs_needed().resume(name)

    def stop_run(self, name: str, key: str = "") -> Run:
        """Stop a run and keep what is there."""
        run = self.run(name)
        self._check_owner(run, key)
        run.stop.set()
        return run

    def may_change(self, run: Run, keys: Sequence[str]) -> bool:
        """Whoever holds these keys may rename and delete a run."""
        return not self.limits.owned or run.owned_by(keys)

    def rename_run(self, name: str, new: str, key: str = "") -> Run:
        """Give a run another name."""
        self._check_owner(self.run(name), key)
        self._forget_package(name)
        return self._runs_needed().rename(name, new)

    def delete_run(self, name: str, key: str = "") -> str:
        """Put a run into the trash; gives the name it has there, "" where it kept nothing."""
        self._check_owner(self.run(name), key)
        self._forget_package(name)
        return self._runs_needed().delete(name)

    def restore_run(self, thrown: str, key: str = "") -> Run:
        """Take a run out of the trash again."""
        runs = self._runs_needed()
        self._check_owner(runs.thrown(thrown), key)
        return runs.restore(thrown)

    def deleted_runs(self) -> dict[str, Run]:
        """Runs in the trash, by their names there."""
        runs = self._runs()
        return runs.trash() if runs else {}

    def provenance(self, name: str) -> tuple[dict[str, Any], str]:
        """What is written beside a run's vectors, and a name for their content."""
        return self._runs_needed().card(name), self._runs_needed().prompt(name).digest

    def vectors(self, name: str) -> list[Vector]:
        """What each vector of a run's prompt has become."""
        loaded = self._with_space()
        prompt = self._runs_needed().prompt(name)
        if prompt.digest not in self._vectors:
            with self._turns.visitor():
                self._check_same(loaded)
                from dro.vectors import describe

                found = gpu.ask(lent.described, prompt) if gpu.LENT else describe(loaded.model, prompt)
            self._vectors[prompt.digest] = found
            for old in list(self._vectors)[:-KEPT_VECTORS]:
                self._vectors.pop(old, None)
        return self._vectors[prompt.digest]

    def run(self, name: str) -> Run:
        """A run by its name."""
        return self._runs_needed().get(name)

    def package(self, name: str) -> Path | None:
        """A run's prompt as a file to take away, made once; None before it is usable."""
        runs = self._runs_needed()
        run = runs.get(name)
        if not run.usable:
            return None
        key = (run.folder, len(run.rates))  # runs of two models may bear one name
        if key not in self._packages or not self._packages[key].exists():
            self._packages[key] = package(run, runs.bench.model)
        return self._packages[key]

    def _forget_package(self, name: str) -> None:
        """Another run may bear this name one day."""
        for key in [key for key in list(self._packages) if key[0].name == name]:
            self._packages.pop(key, None)

    @contextmanager
    def following(self) -> Iterator[None]:
        """A place among the programs that follow runs."""
        if not self._followers.acquire(blocking=False):
            raise DataError(f"{self.limits.followers} programs follow runs already.", "Ask again later.")
        try:
            yield
        finally:
            self._followers.release()

    def run_names(self) -> list[str]:
        """All runs of the loaded model, oldest first."""
        runs = self._runs()
        return runs.names() if runs else []

    def runs(self) -> list[Run]:
        """The same, as they are."""
        runs = self._runs()
        return runs.all() if runs else []

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
        chosen = [self._resolve(name, loaded) for name in few(prompts)]
        return self._evaluations.start(loaded.runs.bench, chosen, sets, self._visitor())

    def evaluation(self, name: str) -> Evaluation | None:
        """An evaluation by its name; None where it is not kept any more."""
        return self._evaluations.get(name)

    # Inside ------------------------------------------------------------------------------------------

    def _phases(self) -> list[str]:
        return [f"{run.name}:{run.phase}" for run in self.runs()]

    def _need(self) -> Loaded:
        loaded = self._loading.loaded
        if loaded is not None:
            return loaded
        if self._loading.failure is not None:
            raise self._loading.failure
        raise DroError(f"{text.LOADING}.", text.WAIT)

    def _check_same(self, loaded: Loaded) -> None:
        """Raise where the model was changed while somebody waited for a turn."""
        now = self._loading.loaded  # another record of the same model, where its layers were read meanwhile
        if now is None or now.model is not loaded.model:
            raise DroError("The model was changed meanwhile.", "Ask again.")

    def _check_owner(self, run: Run, key: str) -> None:
        if self.limits.owned and not run.owned_by([key]):
            raise DataError(f"{run.name} was begun by somebody else.", "Start a run of your own.")

    def _ticket(
        self, loaded: Loaded, query: str, prompts: Sequence[str], longest: int = 0, seed: int | None = None
    ) -> Ticket:
        chosen = [self._resolve(name, loaded) for name in few(prompts)]
        lengths = own_lengths(loaded.model, chosen, query)
        if self._work is None or self._work.loaded is not loaded:
            self._work = ModelWork(loaded, self._check_same)
        return Ticket(self._work, self._visitor(), query, chosen, lengths, longest, seed)

    def _longest(self, max_tokens: object) -> int:
        """How long an answer may become where somebody asks for so many tokens."""
        return min(whole("max_tokens", max_tokens, 1, 2**31), self.limits.answer_tokens)

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
        return resolve(public(name, loaded.runs), loaded.model)


def health_of(space: Space) -> list[dict[str, Any]]:
    """The space's health report."""
    return [dict(check) for check in space.health]


def provenance_of(space: Space) -> dict[str, Any]:
    """Where the space comes from."""
    return {"name": space.name, **dict(space.provenance)}
