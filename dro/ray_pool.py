"""An engine on Ray: workers that hold one model each, on this machine or on the cluster at RAY_ADDRESS.

A worker that dies is started again, with its model, and its call made again; one that keeps dying on a call
ends the work by naming it. Towards the end a call that takes far longer than all others is given to an idle
worker as well: calls may be made twice, and the first result counts. Ray is imported here and only here.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dro.engine import After, Call, Opened, Size
from dro.errors import DroError, ModelError, Travelling
from dro.sources import Progress, silent

TRIES = 4
"""How often a call is made whose worker dies or whose machine fails."""
_SLOW, _LEAST_SECONDS = 3.0, 30.0
"""A call is late when it takes so many times the longest before it, and so long at least."""
_ROOT = Path(__file__).resolve().parent.parent
_NOT_SENT = [".git", ".venv", "runs", "docs", "tests", ".*_cache", "**/__pycache__"]


class Worker:
    """One model, loaded at the first call, in a process of its own."""

    def __init__(self, model: Opened, cpus: int, device: str) -> None:
        import torch

        torch.set_num_threads(cpus)
        self._opened, self._device = model, device
        self._model: Any = None

    def process(self) -> int:
        """The id of this worker's process on its machine."""
        return os.getpid()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns for the model; errors of ours come back as values."""
        try:
            if self._model is None:
                self._model = self._opened.load(device=self._device)
            return function(self._model, *arguments)
        except DroError as error:
            return Travelling.of(error)


class Pool:
    """Workers, each busy with one call at most."""

    def __init__(self, ray: Any, workers: list[Any]) -> None:
        self._ray = ray
        self.workers = workers

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """One call, on any worker."""
        found: list[Any] = []

        def keep(_: Call, result: Any) -> tuple[Call, ...]:
            found.append(result)
            return ()

        self.work([Call("", function, arguments)], keep)
        return found[0]

    def work(self, calls: Iterable[Call], after: After) -> None:
        """See `engine.Engine`. What is told is told in this process, in order of arrival."""
        waiting, idle = deque(calls), list(self.workers)
        running: dict[Any, tuple[Any, Call, float]] = {}
        longest = _LEAST_SECONDS / _SLOW
        lost: dict[Any, int] = {}
        told = set()
        while waiting or running:
            while waiting and idle:
                self._start(idle.pop(0), waiting.popleft(), running)
            if idle and (late := _late(running, longest)):
                self._start(idle.pop(0), late, running)
            for ref in self._ray.wait(list(running), timeout=5.0)[0]:
                worker, call, began = running.pop(ref)
                try:
                    result = self._ray.get(ref)
                except self._ray.exceptions.RayActorError:
                    # Ray has tried again on the same worker, started anew: let another one try.
                    lost[call.key] = lost.get(call.key, 0) + 1
                    if lost[call.key] == 1 and len(self.workers) > 1:
                        self.workers.remove(worker)
                        waiting.append(call)
                        continue
                    raise ModelError(
                        f"Two workers died of the same call ({call.key}), {TRIES} times each.",
                        "Give each more memory, or load the model in 4bit; what is finished is kept.",
                    ) from None
                idle.append(worker)
                if isinstance(result, Travelling):
                    raise result.error()
                if call.key in told:
                    continue
                told.add(call.key)
                longest = max(longest, time.monotonic() - began)
                waiting.extend(after(call, result))
                if not waiting and all(other.key in told for _, other, _ in running.values()):
                    self._leave(worker for worker, _, _ in running.values())
                    return

    def _start(self, worker: Any, call: Call, running: dict[Any, tuple[Any, Call, float]]) -> None:
        method = worker.call.options(retry_exceptions=[OSError, RuntimeError], max_task_retries=TRIES - 1)
        running[method.remote(call.function, *call.arguments)] = (worker, call, time.monotonic())

    def _leave(self, workers: Iterable[Any]) -> None:
        """Stop workers that are at a call nobody waits for any more; they come back with the next one."""
        for worker in workers:
            self._ray.kill(worker, no_restart=False)


def _late(running: dict[Any, tuple[Any, Call, float]], longest: float) -> Call | None:
    """The call that has taken far longer than any before it, if nobody else is at it."""
    keys = [call.key for _, call, _ in running.values()]
    for _, call, began in sorted(running.values(), key=lambda each: each[2]):
        if keys.count(call.key) == 1 and time.monotonic() - began > _SLOW * longest:
            return call
    return None


@contextmanager
def pool(model: Opened, size: Size = Size(), progress: Progress = silent) -> Iterator[Pool]:
    """Workers of this model on the `cluster`, until the block ends.

    Raises
    ------
    ModelError: see `cluster`; or it has no room for one worker, or for as many as were asked for.
    """
    progress("Starting workers", 0.0)
    workers: list[Any] = []
    with cluster() as ray:
        try:
            wanted = _fit(ray.cluster_resources(), size)
            kind = ray.remote(Worker).options(
                num_cpus=wanted.cpus, num_gpus=wanted.gpus, max_restarts=-1, max_task_retries=TRIES - 1
            )
            device = "auto" if wanted.gpus else "cpu"
            workers += [kind.remote(model, wanted.cpus, device) for _ in range(wanted.workers)]
            yield Pool(ray, workers)
        finally:
            for worker in workers:
                ray.kill(worker)


@contextmanager
def cluster(cores: int | None = None) -> Iterator[Any]:
    """Ray, connected: to what this process has joined already, to RAY_ADDRESS, or to a cluster begun here.

    cores: how many a cluster begun here says it has; None: those of this machine.

    Raises
    ------
    ModelError: Ray is not installed, or the cluster cannot be reached.
    """
    # Before Ray is imported. Nothing is reported to anybody; a cluster begun here asks for its token; a
    # worker without a GPU of its own is told so by us, not by hiding them.
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        # By itself Ray lets its workers wait for everybody else; here they are the work.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise ModelError("--engine ray needs Ray.", "pip install -r requirements-ray.txt") from None
    if ray.is_initialized():
        yield ray
        return
    _join(ray, address, cores)
    try:
        yield ray
    finally:
        ray.shutdown()


def _join(ray: Any, address: str | None, cores: int | None) -> None:
    """Connect to a cluster, and bring the code along; or begin one on this machine."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        options |= {"address": address}
        options |= {"runtime_env": {"working_dir": str(_ROOT), "excludes": _NOT_SENT}}
    else:
        # Results are small; by itself Ray would take a third of the memory for them.
        options |= {
            "include_dashboard": False,
            "num_cpus": cores or os.cpu_count(),
            "object_store_memory": 200 << 20,
        }
    try:
        ray.init(**options)
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        raise ModelError(
            f"Ray cannot be {'reached at ' + address if address else 'started'}: {' '.join(first)[:300]}",
            "Check RAY_ADDRESS, and that the cluster runs the same Ray." if address else "See its logs.",
        ) from None


def _fit(there: dict[str, float], size: Size) -> Size:
    """The size with its numbers filled in, for the resources a cluster has."""
    cores, devices = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    gpus = min(1, devices) if size.gpus is None else size.gpus
    room = min(cores // size.cpus, devices // gpus if gpus else cores)
    if room < max(1, size.workers):
        raise ModelError(
            f"{max(1, size.workers)} workers of {size.cpus} cores and {gpus} GPUs do not fit: the cluster "
            f"has {cores} cores and {devices} GPUs.",
            "Ask for fewer or smaller ones: --workers, --worker-cpus, --worker-gpus.",
        )
    return Size(size.workers or room, size.cpus, gpus)
