"""What programs can ask over HTTP (gradio_client, curl): locate, answer, optimise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from dro.errors import DataError
from dro.recipes import Config
from explorer.messages import shown
from explorer.service import Service

_POLL = 0.5


def build(service: Service) -> None:
    """Publish the endpoints; called inside the gr.Blocks."""

    def locate(query: str, prompts: list[str]) -> dict[str, Any]:
        """Place a query in the model's space under safety prompts, named as on the command line."""
        with shown(page=False):
            return service.locate(query, prompts)
        raise AssertionError

    def answer(
        query: str, prompt: str = "template", max_tokens: int = 24, seed: int | None = None
    ) -> dict[str, str]:
        """Answer a query under a safety prompt; the verdict is the phrase judge's.

        Greedy without a seed, sampled with one.
        """
        with shown(page=False):
            return service.answer(query, prompt, max_tokens, seed)
        raise AssertionError

    async def optimise(
        action: str = "start",
        run: str = "",
        preset: str = "quick",
        settings: dict[str, Any] | None = None,
        key: str = "",
    ) -> AsyncIterator[dict[str, Any]]:
        """Train a safety prompt. action: "start" (a preset with changed settings; gives the run's name, and
        the key that stops it where runs belong to somebody), "follow" (a record whenever the run has
        changed, until it is over), "stop" (keeps what is there)."""
        # Asynchronous: who follows a run for an hour must not hold a thread for an hour.
        with shown(page=False):
            if action == "start":
                config = service.configuration(preset, **_settings(settings))
                started, given = service.start_run(config, preset)
                yield started.as_dict() | ({"key": given} if given else {})
            elif action == "stop":
                yield service.stop_run(run, key).as_dict()
            elif action == "follow":
                followed, version = service.run(run), -1
                with service.following():
                    while True:
                        over = followed.over
                        if followed.version != version:
                            version = followed.version
                            yield followed.as_dict()
                        if over:
                            return
                        await asyncio.sleep(_POLL)
            else:
                raise DataError(f"There is no action {str(action)[:40]!r}.", "Use start, follow or stop.")

    # The desk bounds what waits; gradio need not.
    gr.api(locate, api_name="locate", concurrency_limit=service.limits.questions + 8)
    gr.api(answer, api_name="answer", concurrency_limit=service.limits.questions + 8)
    gr.api(optimise, api_name="optimise", concurrency_limit=None)  # it only waits


def _settings(told: object) -> dict[str, Any]:
    """Settings of a run as a program may send them, or a DataError that names what is none."""
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise DataError("The settings are no object.", 'Send {"steps": 30}, for example.')
    odd = [str(name) for name in told if name not in Config.model_fields]
    if odd:
        raise DataError(f"There is no setting {odd[0][:40]!r}.", f"Use {', '.join(Config.model_fields)}.")
    return told
