"""Train a soft prompt: an optimisation that yields a Step record at a time, checkpoints each, resumes.

θ and the optimiser's moments are float32 whatever the model's dtype. The model is frozen. x0 and xθ
come from the same code path, so at step 0 they are equal.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from dro import prompts, store
from dro.data import QuerySet
from dro.errors import DataError, ModelError, StoreError
from dro.models import ChatModel
from dro.objective import Losses, Objective
from dro.prompts import SafetyPrompt
from dro.sources import Progress, silent
from dro.space import Space
from dro.states import (
    PACK_TOKENS,
    own_ids,
    packed_states,
    packs,
    prefix_ids,
    prompt_vectors,
)

CONFIG_FILE, STEPS_FILE, CHECKPOINT_FILE, STATES_FILE = (
    "config.json", "steps.jsonl", "checkpoint.safetensors", "states.safetensors",
)  # fmt: skip


class Config(BaseModel):
    """Settings of an optimisation. `Config.paper()` are the paper's.

    target: "difference" from the start, as in the paper, or "absolute" (see `objective`).
    harmless_weight: weight of a harmless query in L_r and L_h, a harmful one counting 1.
    init: text prompt that θ starts from. steps: updates of θ. batch: queries in each, half of either
    class. lr: AdamW's learning rate, constant or falling to zero on a cosine. harmfulness_weight: of L_h.
    residual_weight: β, of L_U.
    validate_every: steps between looks at held-out queries (0: never).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    init: str = "short"
    target: Literal["difference", "absolute"] = "absolute"
    harmless_weight: float = Field(4.0, gt=0)
    steps: int = Field(160, ge=1, le=100_000)
    batch: int = Field(50, ge=2, le=1024)
    lr: float = Field(2e-3, gt=0, le=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    harmfulness_weight: float = Field(0.3, ge=0)
    residual_weight: float = Field(0.001, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    seed: int = Field(42, ge=0)
    validate_every: int = Field(10, ge=0)

    @classmethod
    def paper(cls, **changes: Any) -> Config:
        """The paper's settings, with `changes`."""
        told = {"target": "difference", "harmless_weight": 1.0, "harmfulness_weight": 0.01}
        return cls(**{**told, "lr": 1e-3, "schedule": "constant", **changes})

    def lr_at(self, step: int) -> float:
        """Learning rate of the update `step`, from 0."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Step:
    """One update. Losses are of the batch it was computed on, before the update.

    validation: the same losses on held-out queries after the update, and the mean change of f_r on
    harmful and harmless ones, in logits; None between looks.
    """

    step: int
    loss: float
    refusal: float
    harmfulness: float
    residual: float
    gradient_norm: float
    seconds: float
    validation: Mapping[str, float] | None = None


class Optimisation:
    """A run in a folder. Iterate over `steps()`; `finish()` writes the prompt of the last step.

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
            space.offsets() if config.target == "absolute" else None,
        )  # fmt: skip
        given = prompt_vectors(model, self._start)
        initial = model.embed(self._prefix.slot) if given is None else given
        self._initial = initial.float()
        self.vectors = self._initial.clone().requires_grad_()
        self._optimiser = torch.optim.AdamW(
            [self.vectors], lr=config.lr, weight_decay=config.weight_decay, foreach=False
        )
        self.done = 0
        self._train = _Queries(model, self._start, train)
        self._held_out = _Queries(model, self._start, validation) if validation else None
        self._claim(train, validation)

    @property
    def curve(self) -> list[Step]:
        """The steps taken so far, as they stand in the folder."""
        return read_curve(self.folder)[: self.done]

    def steps(self) -> Iterator[Step]:
        """Take the remaining steps; each is on disk when it is yielded."""
        config = self.config
        if self.done >= config.steps:
            return
        self._progress("States before training", 0.0)
        self._train.start = self._states(self._train, self._initial, 0.0, 0.7)
        if self._held_out and config.validate_every:
            self._held_out.start = self._states(self._held_out, self._initial, 0.7, 0.3)
        while self.done < config.steps:
            began = time.perf_counter()
            rows = batch_rows(self._train.harmful.cpu().numpy(), config, self.done)
            losses, norm = self._update(rows)
            seconds = time.perf_counter() - began
            self.done += 1
            due = config.validate_every and (
                self.done % config.validate_every == 0 or self.done == config.steps
            )
            validation = self._validate() if due and self._held_out else None
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
        vectors = self.vectors.detach().cpu().numpy().copy()
        return SafetyPrompt(str(self.folder), self._start.text, vectors)

    def finish(self) -> SafetyPrompt:
        """Write the prompt of the last step, and the training queries' states before and after it."""
        from safetensors.numpy import save as to_bytes

        if self._train.start is None:
            self._train.start = self._states(self._train, self._initial, 0.0, 0.5)
        after = self._states(self._train, self.vectors.detach(), 0.5, 0.5)
        arrays = {"before": self._train.start.cpu().numpy(), "after": after.cpu().numpy()}
        store.write_bytes(self.folder / STATES_FILE, to_bytes(arrays))
        prompt = self.prompt()
        prompts.save(prompt, self.folder, self._card())
        return prompt

    def _update(self, rows: np.ndarray) -> tuple[Losses, float]:
        queries = self._train
        assert queries.start is not None
        self._optimiser.zero_grad(set_to_none=True)
        states = packed_states(self.model, [queries.own[r] for r in rows], self._prefix, self.vectors)
        losses = self._objective(states, queries.start[rows], queries.harmful[rows])
        losses.total.backward()
        gradient = self.vectors.grad
        norm = float(torch.nn.utils.clip_grad_norm_([self.vectors], self.config.clip))
        if not torch.isfinite(losses.total) or not np.isfinite(norm):
            raise ModelError(
                f"Step {self.done + 1} diverged (loss {losses.total.item()}, gradient norm {norm}).",
                f"The last good step is kept in {self.folder}; try a smaller --lr in a new folder.",
            )
        if self.done == 0 and (gradient is None or norm == 0):
            raise ModelError(
                f"{self.model.name} in {self.model.precision} gives the soft prompt no gradient.",
                "Load it in another precision.",
            )
        self._optimiser.param_groups[0]["lr"] = self.config.lr_at(self.done)
        self._optimiser.step()
        return losses, norm

    @torch.no_grad()
    def _states(self, queries: _Queries, vectors: torch.Tensor, start: float, share: float):
        result = torch.empty(len(queries.own), self.model.d_model, device=self.model.device)
        done = 0
        for rows in packs([len(o) for o in queries.own], PACK_TOKENS):
            self._checkpoint()
            result[rows] = packed_states(self.model, [queries.own[r] for r in rows], self._prefix, vectors)
            done += len(rows)
            self._progress("States of the training queries", start + share * done / len(queries.own))
        return result

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        queries = self._held_out
        assert queries is not None and queries.start is not None
        states = self._states(queries, self.vectors, 0.0, 1.0)
        losses = self._objective(states, queries.start, queries.harmful)
        shift = (states - queries.start) @ self._objective.basis @ self._objective.refusal
        harmful = queries.harmful.bool()
        return {
            "loss": losses.total.item(),
            "refusal": losses.refusal.item(),
            "harmfulness": losses.harmfulness.item(),
            "residual": losses.residual.item(),
            "refusal_shift_harmful": shift[harmful].mean().item(),
            "refusal_shift_harmless": shift[~harmful].mean().item(),
        }

    def _claim(self, train: QuerySet, validation: QuerySet | None) -> None:
        """Write the configuration into an empty folder, or take up the run that is there."""
        described: dict[str, Any] = {
            "config": self.config.model_dump(),
            "space": self.space.name,
            "model": self.model.name,
            "revision": self.model.revision,
            "precision": self.model.precision,
            "train": {"name": train.name, "sha256": train.digest},
            "validation": validation and {"name": validation.name, "sha256": validation.digest},
        }
        path = self.folder / CONFIG_FILE
        if not path.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise StoreError(f"{self.folder} holds other files.", "Name an empty or new folder.")
            store.write_json(path, described)
            return
        there = store.read_json(path)
        if there != described:
            told = {**described, **described["config"]}
            other = {**there, **there.get("config", {})}
            odd = [k for k in told if k != "config" and told[k] != other.get(k)]
            raise StoreError(
                f"{self.folder} holds another run (other {', '.join(odd) or 'settings'}).",
                "Name a new folder, or repeat that run's settings to go on with it.",
            )
        if (self.folder / CHECKPOINT_FILE).exists():
            self._restore()
        else:  # killed between the first line of the curve and the first checkpoint
            (self.folder / STEPS_FILE).unlink(missing_ok=True)

    def _restore(self) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / CHECKPOINT_FILE
        try:
            kept = load_file(path)
            if kept["vectors"].shape != self.vectors.shape:
                raise ValueError(f"vectors are {tuple(kept['vectors'].shape)}")
            with torch.no_grad():
                self.vectors.copy_(kept["vectors"])
            self.done = int(kept["step"])
            self._optimiser.state[self.vectors] = {
                "step": torch.tensor(float(self.done)),
                "exp_avg": kept["exp_avg"].to(self.vectors.device),
                "exp_avg_sq": kept["exp_avg_sq"].to(self.vectors.device),
            }
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise StoreError(
                f"{path} is damaged ({error}).", "Delete the run's folder and start anew."
            ) from None
        lines = [json.dumps(asdict(s)) + "\n" for s in read_curve(self.folder)[: self.done]]
        store.write_bytes(self.folder / STEPS_FILE, "".join(lines).encode())

    def _write(self, step: Step) -> None:
        from safetensors.torch import save as to_bytes

        # The curve first: after a kill between the two, the step is taken again and its line replaced.
        with (self.folder / STEPS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(step)) + "\n")
        moments = self._optimiser.state[self.vectors]
        content = to_bytes({
            "vectors": self.vectors.detach().cpu().contiguous(),
            "exp_avg": moments["exp_avg"].cpu(),
            "exp_avg_sq": moments["exp_avg_sq"].cpu(),
            "step": torch.tensor(self.done),
        })  # fmt: skip
        store.write_bytes(self.folder / CHECKPOINT_FILE, content)

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
            "config": self.config.model_dump(),
        }


def batch_rows(harmful: np.ndarray, config: Config, step: int) -> np.ndarray:
    """Rows of the batch of `step` (from 0): half of either class, each class in seeded epochs.

    A function of the step alone, so that a resumed run draws the same batches.
    """
    halves = ((True, config.batch - config.batch // 2), (False, config.batch // 2))
    return np.concatenate([
        _epoch_slice(np.flatnonzero(harmful == kind), size, config.seed, int(kind), step)
        for kind, size in halves
    ])  # fmt: skip


def read_curve(folder: Path) -> list[Step]:
    """The Step records of a run's folder; a last line cut short by a kill is left out."""
    path = folder / STEPS_FILE
    if not path.exists():
        return []
    steps = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            steps.append(Step(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return steps


def _epoch_slice(rows: np.ndarray, size: int, seed: int, kind: int, step: int) -> np.ndarray:
    if size > len(rows):
        raise DataError(f"A batch needs {size} queries of each class; there are {len(rows)}.",
                        "Choose a smaller batch.")  # fmt: skip
    per_epoch = len(rows) // size
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, kind, epoch]).permutation(rows)
    return order[place * size : (place + 1) * size]


class _Queries:
    """A query set as a run needs it: own token ids, labels, and states under the starting text."""

    def __init__(self, model: ChatModel, start: SafetyPrompt, queries: QuerySet) -> None:
        self.own = own_ids(model, start, queries.texts)
        labels = [float(q.harmful) for q in queries.queries]
        self.harmful = torch.tensor(labels, device=model.device)
        self.start: torch.Tensor | None = None
