"""What programs can ask over HTTP (gradio_client, curl): locate, answer, optimise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from dro.errors import DataError
from explorer.messages import shown
from explorer.service import Service

_POLL = 0.5


def build(service: Service) -> None:
    """Publish the endpoints; called inside the gr.Blocks."""

    def locate(query: str, prompts: list[str]) -> dict[str, Any]:
        """Place a query in the model's space under safety prompts, named as on the command line."""
        with shown():
            return service.locate(query, prompts)
        raise AssertionError

    def answer(
        query: str, prompt: str = "template", max_tokens: int = 24, seed: int | None = None
    ) -> dict[str, str]:
        """Answer a query under a safety prompt; the verdict is the phrase judge's.

        Greedy without a seed, sampled with one.
        """
        with shown():
            return service.answer(query, prompt, max_tokens, seed)
        raise AssertionError

    def optimise(
        action: str = "start", run: str = "", preset: str = "quick", settings: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Train a safety prompt. action: "start" (a preset with changed settings; gives the run's name),
        "follow" (a record whenever the run has changed, until it is over), "stop" (keeps what is there)."""
        with shown():
            if action == "start":
                yield service.start_run(service.configuration(preset, **(settings or {})), preset).as_dict()
            elif action == "stop":
                service.run(run).stop.set()
                yield service.run(run).as_dict()
            elif action == "follow":
                followed, version = service.run(run), -1
                while True:
                    over = followed.over
                    if followed.version != version:
                        version = followed.version
                        yield followed.as_dict()
                    if over:
                        return
                    time.sleep(_POLL)
            else:
                raise DataError(f"There is no action {action!r}.", "Use start, follow or stop.")

    gr.api(locate, api_name="locate", concurrency_limit=16)
    gr.api(answer, api_name="answer", concurrency_limit=16)
    gr.api(optimise, api_name="optimise", concurrency_limit=None)  # it only waits
