"""Train a soft prompt: an optimisation that yields a Step record at a time, checkpoints each, resumes.

θ and the optimiser's moments are float32 whatever the model's dtype. The model is frozen. x0 and xθ
come from the same code path, so at step 0 they are equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dro import first_token, gradients, prompts, run_folder
from dro.batching import passes, room
from dro.data import QuerySet
from dro.draws import batch_rows
from dro.errors import DataError, ModelError
from dro.models import ChatModel
from dro.objective import Losses, Objective
from dro.prompts import SafetyPrompt
from dro.recipes import Config, mass_score
from dro.run_folder import Step
from dro.sources import Progress, silent
from dro.space import Space
from dro.states import own_ids, packed_states, prefix_ids, prompt_vectors

EXPLODED, _FEWEST_NORMS = 1e4, 5
"""A gradient so many times the median of those before is none any more; judged from so many steps on."""


class _DivergedError(ModelError):
    """A step that must not be taken."""


@dataclass
class _Best:
    """The prompt that will be kept: its vectors, the step they are of, and what speaks for them."""

    vectors: torch.Tensor
    step: int
    score: float


class Optimisation:
    """A run in a folder. Iterate over `steps()`; `finish()` writes the prompt of the chosen step.

    Opening a folder that holds the same run goes on from its last step; another run is refused.
    """

    def __init__(
        self,
        model: ChatModel,
        space: Space,
        config: Config,
        train: QuerySet,
        validation: QuerySet | None,
        folder: Path,
        progress: Progress = silent,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """`checkpoint` is called between model passes outside the steps themselves; it may raise to stop."""
        space.check_model(model)
        refusal = space.need_refusal()
        self.model, self.space, self.config, self.folder = model, space, config, folder
        self._progress, self._checkpoint = progress, checkpoint
        self._start = prompts.resolve(config.init, model)
        if self._start.text is None:
            raise DataError(f"The prompt {config.init!r} has no tokens to train.", "Start from short.")
        if config.target == "first-token" or config.choose == "mass":
            space.need_openings()
        if config.choose != "last" and (validation is None or not config.validate_every):
            raise DataError("A step cannot be chosen without held-out queries.",
                            "Set validate_every, or choose the last step.")  # fmt: skip
        if config.batch > len(train):
            raise DataError(f"batch is {config.batch}, but there are {len(train)} training queries.",
                            "Choose a smaller batch.")  # fmt: skip
        self._prefix = prefix_ids(model, self._start)
        basis, towards_refusal, towards_harm = (
            torch.tensor(a, dtype=torch.float32, device=model.device)
            for a in (space.projection.basis, refusal.weight, space.harmfulness.weight)
        )
        self._objective = Objective(
            basis, towards_refusal, towards_harm,
            config.harmfulness_weight, config.residual_weight, config.harmless_weight,
            None if config.target == "difference" else space.offsets(),
            first_token.Mass(model, space.openings).log_odds if config.target == "first-token" else None,
            config.ranking,
        )  # fmt: skip
        given = prompt_vectors(model, self._start)
        initial = model.embed(self._prefix.slot) if given is None else given
        self._initial = initial.float()
        self.vectors = self._initial.clone().requires_grad_()
        self._optimiser = torch.optim.AdamW(
            [self.vectors],
            lr=config.lr,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            foreach=False,
        )
        self.done = 0
        self._norms: list[float] = []
        self._best = _Best(self._initial, 0, float("-inf"))
        self._queries = train.queries
        self._train = _Queries(model, self._start, train.texts, [q.harmful for q in train.queries])
        self._held_out = (
            _Queries(model, self._start, validation.texts, [q.harmful for q in validation.queries])
            if validation
            else None
        )
        described = {
            "config": config.model_dump(),
            "space": space.name,
            "model": model.name,
            "revision": model.revision,
            "precision": model.precision,
            "train": {"name": train.name, "sha256": train.digest},
            "validation": validation and {"name": validation.name, "sha256": validation.digest},
        }
        self.diverged = ""
        """Why the run stopped itself; its best step is kept."""
        run_folder.check_free(folder)  # before there is a lock in it
        held = run_folder.hold(folder)
        try:
            if run_folder.claim(folder, described):
                self._restore()
        except BaseException:
            if held:
                self.close()
            raise

    @property
    def curve(self) -> list[Step]:
        """The steps taken so far, as they stand in the folder."""
        return run_folder.read_curve(self.folder)[: self.done]

    def steps(self) -> Iterator[Step]:
        """Take the remaining steps; each is on disk when it is yielded."""
        config = self.config
        if self.done >= config.steps:
            return
        self._progress("States before training", 0.0)
        drawn = [batch_rows(self._queries, config, step) for step in range(config.steps)]
        needed = np.unique(np.concatenate(drawn))
        if config.residual_on == "anchors":
            anchors = set(self.space.anchors.queries)
            needed = needed[[self._train.texts[row] in anchors for row in needed]]
        self._start_states(needed)
        if self._held_out and config.validate_every:
            self._fill(self._held_out, range(len(self._held_out.own)), 0.7, 0.3)
        for rows in drawn[self.done :]:
            began = time.perf_counter()
            try:
                losses, norm = self._update(rows)
            except _DivergedError as error:
                self.diverged = str(error)
                return
            seconds = time.perf_counter() - began
            self.done += 1
            due = config.validate_every and (
                self.done % config.validate_every == 0 or self.done == config.steps
            )
            validation = self._validate() if due and self._held_out else None
            self._choose(validation)
            step = Step(
                self.done, losses.total.item(), losses.refusal.item(), losses.harmfulness.item(),
                losses.residual.item(), norm, seconds, validation,
            )  # fmt: skip
            self._write(step)
            yield step

    def when_idle(self, checkpoint: Callable[[], None]) -> None:
        """Call `checkpoint` between model passes from now on, in place of the one given at the start."""
        self._checkpoint = checkpoint

    def prompt(self) -> SafetyPrompt:
        """The soft prompt as it stands."""
        return self._as_prompt(self.vectors.detach())

    @property
    def chosen(self) -> int:
        """The step whose prompt `finish` writes."""
        return self._best.step

    def finish(self, usable: Callable[[SafetyPrompt], None] = lambda _: None) -> SafetyPrompt:
        """Write the prompt of the chosen step, and the space's anchors' states before and after it.

        `usable` is called with the prompt as soon as it and the states under it are written: the states
        before it take as long again, and nobody need wait for them.
        """
        anchors = _Queries(
            self.model, self._start, self.space.anchors.queries, self.space.anchors.harmful.tolist()
        )
        anchors.take_over(self._train)
        after = self._states(anchors, range(len(anchors.own)), self._best.vectors, 0.0, 0.5).cpu().numpy()
        run_folder.write_states(self.folder, after=after)
        prompt = self._as_prompt(self._best.vectors)
        prompts.save(prompt, self.folder, self._card())
        usable(prompt)
        self._fill(anchors, range(len(anchors.own)), 0.5, 0.5)
        run_folder.write_states(self.folder, before=anchors.start.cpu().numpy(), after=after)
        self.close()
        return prompt

    def close(self) -> None:
        """Let other processes have the folder; what is in it goes on from its last step."""
        run_folder.release(self.folder)

    def _start_states(self, needed: np.ndarray) -> None:
        """States of the queries that steps need, before training. They are kept: a run that goes on must
        start from the same ones to the bit, and need not wait for them."""
        kept = run_folder.read_start(self.folder, needed, self.model.d_model)
        if kept is not None:
            self._train.start[needed] = kept.to(self._train.start)
            self._train.known[needed] = True
            return
        self._fill(self._train, needed.tolist(), 0.0, 0.7)
        run_folder.write_start(self.folder, needed, self._train.start[needed])

    def _as_prompt(self, vectors: torch.Tensor) -> SafetyPrompt:
        return SafetyPrompt(str(self.folder), self._start.text, vectors.cpu().numpy().copy())

    def _choose(self, validation: dict[str, float] | None) -> None:
        """Keep this step's prompt if it is the last so far, or the best on held-out queries."""
        score = float("-inf")
        if self.config.choose != "last":
            if validation is None and self._best.score > float("-inf"):
                return
            if validation is not None:
                score = self._score(validation)
                if score < self._best.score:
                    return
        self._best = _Best(self.vectors.detach().clone(), self.done, score)

    def _score(self, validation: dict[str, float]) -> float:
        """What speaks for a step on held-out queries; more is better."""
        if self.config.choose == "loss":
            return -validation["loss"]
        return mass_score(validation, self.config.harmless_weight)

    def _update(self, rows: np.ndarray) -> tuple[Losses, float]:
        queries = self._train
        self._optimiser.zero_grad(set_to_none=True)
        known = torch.as_tensor(queries.known[rows], device=self.vectors.device)
        losses = gradients.backward(
            self.model, [queries.own[r] for r in rows], self._prefix, self.vectors,
            lambda states: self._objective(states, queries.start[rows], queries.harmful[rows], known),
            room(self.model),
        )  # fmt: skip
        gradient = self.vectors.grad
        norm = float(torch.nn.utils.clip_grad_norm_([self.vectors], self.config.clip))
        if not torch.isfinite(losses.total) or not np.isfinite(norm) or self._explodes(norm):
            told = (
                f"Step {self.done + 1} diverged (loss {losses.total.item():.3g}, gradient norm {norm:.3g})."
            )
            remedy = "Try a smaller --lr in a new folder."
            if not self.done:
                raise ModelError(told, remedy)
            raise _DivergedError(f"{told} Step {self._best.step} is kept.", remedy)
        if self.done == 0 and (gradient is None or norm == 0):
            raise ModelError(
                f"{self.model.name} in {self.model.precision} gives the soft prompt no gradient.",
                "Load it in another precision.",
            )
        self._optimiser.param_groups[0]["lr"] = self.config.lr_at(self.done)
        self._optimiser.step()
        self._norms.append(norm)
        return losses, norm

    def _explodes(self, norm: float) -> bool:
        """The gradient is out of all proportion to those of the steps before."""
        return len(self._norms) >= _FEWEST_NORMS and norm > EXPLODED * float(np.median(self._norms))

    def _fill(self, queries: _Queries, rows: Sequence[int], start: float, share: float) -> None:
        """Find the starting states of `rows` that are not known yet."""
        missing = [row for row in rows if not queries.known[row]]
        queries.start[missing] = self._states(queries, missing, self._initial, start, share)
        queries.known[missing] = True

    @torch.no_grad()
    def _states(
        self, queries: _Queries, rows: Sequence[int], vectors: torch.Tensor, start: float, share: float
    ) -> torch.Tensor:
        """States (len(rows), d_model) of some of the queries under `vectors`."""
        result = torch.empty(len(rows), self.model.d_model, device=self.model.device)
        done = 0
        lengths = [len(queries.own[row]) for row in rows]

        def run(part: list[int]) -> torch.Tensor:
            self._checkpoint()
            own = [queries.own[rows[place]] for place in part]
            return packed_states(self.model, own, self._prefix, vectors)

        for part, states in passes(lengths, room(self.model), run):
            result[part] = states
            done += len(part)
            self._progress("States of the queries", start + share * done / len(rows))
        return result

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        queries = self._held_out
        assert queries is not None
        states = self._states(queries, range(len(queries.own)), self.vectors, 0.0, 1.0)
        losses = self._objective(states, queries.start, queries.harmful)
        shift = (states - queries.start) @ self._objective.basis @ self._objective.refusal
        harmful = queries.harmful.bool()
        found = {
            "loss": losses.total.item(),
            "refusal": losses.refusal.item(),
            "harmfulness": losses.harmfulness.item(),
            "residual": losses.residual.item(),
            "refusal_shift_harmful": shift[harmful].mean().item(),
            "refusal_shift_harmless": shift[~harmful].mean().item(),
        }
        if self.space.openings:
            mass = first_token.mass(self.model, states, self.space.openings)
            asked = harmful.cpu().numpy()
            found |= {"mass_harmful": mass[asked].mean(), "mass_harmless": mass[~asked].mean()}
        return {name: float(value) for name, value in found.items()}

    def _restore(self) -> None:
        kept = run_folder.read_checkpoint(self.folder, tuple(self.vectors.shape))
        device = self.vectors.device
        with torch.no_grad():
            self.vectors.copy_(kept["vectors"])
        self.done = int(kept["step"])
        self._best = _Best(kept["best"].to(device), int(kept["best_step"]), float(kept["best_score"]))
        self._optimiser.state[self.vectors] = {
            "step": torch.tensor(float(self.done)),
            "exp_avg": kept["exp_avg"].to(device),
            "exp_avg_sq": kept["exp_avg_sq"].to(device),
        }
        run_folder.cut_curve(self.folder, self.done)
        self._norms = [step.gradient_norm for step in self.curve]

    def _write(self, step: Step) -> None:
        # The curve first: after a kill between the two, the step is taken again and its line replaced.
        run_folder.append(self.folder, step)
        moments = self._optimiser.state[self.vectors]
        run_folder.write_checkpoint(self.folder, {
            "vectors": self.vectors,
            "exp_avg": moments["exp_avg"],
            "exp_avg_sq": moments["exp_avg_sq"],
            "step": torch.tensor(self.done),
            "best": self._best.vectors,
            "best_step": torch.tensor(self._best.step),
            "best_score": torch.tensor(self._best.score, dtype=torch.float64),
        })  # fmt: skip

    def _card(self) -> dict[str, Any]:
        return {
            "format": 1,
            "base_model": self.model.name,
            "revision": self.model.revision,
            "precision": self.model.precision,
            "rendering": self.space.provenance["rendering"],
            "init": self.config.init,
            "n_tokens": len(self.vectors),
            "d_model": self.model.d_model,
            "space": self.space.name,
            "steps": self.done,
            "chosen": self.chosen,
            "config": self.config.model_dump(),
        }


class _Queries:
    """Queries as a run needs them: own token ids, labels, and states under the starting text.

    start: (n, d_model), filled where `known`.
    """

    def __init__(
        self, model: ChatModel, start: SafetyPrompt, texts: Sequence[str], harmful: Sequence[bool]
    ) -> None:
        self.texts = list(texts)
        self.own = own_ids(model, start, self.texts)
        self.harmful = torch.tensor([float(label) for label in harmful], device=model.device)
        self.start = torch.zeros(len(self.own), model.d_model, device=model.device)
        self.known = np.zeros(len(self.own), dtype=bool)

    def take_over(self, other: _Queries) -> None:
        """Starting states that another set knows of the same texts."""
        there = {text: row for row, text in enumerate(other.texts) if other.known[row]}
        for row, text in enumerate(self.texts):
            if text in there:
                self.start[row], self.known[row] = other.start[there[text]], True
