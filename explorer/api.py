"""What programs can ask over HTTP (gradio_client, curl): locate, answer, evaluate, optimise.

With `--mcp` the first three are tools of the Model Context Protocol as well. A tool is described by its
docstring, one line for each parameter, and everybody who asks through it counts as one visitor.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import wraps
from typing import Any

import gradio as gr

from dro.data import bundled
from dro.errors import DataError
from dro.recipes import Config
from explorer.messages import shown
from explorer.service import Service

_POLL = 0.5
_SETS = {"report": ("validation", "report"), "test": ("test",)}


def build(service: Service, tools: bool = False) -> None:
    """Publish the endpoints; called inside the gr.Blocks. tools: offer them as tools, too."""

    def locate(query: str, prompts: list[str]) -> dict[str, Any]:
        """Place a query in a chat model's representation space under one or more safety prompts.

        Tells, for each prompt: refusal_probability (a linear probe's estimate, from 0 to 1, not an observed
        rate; null where the space has no such probe), refusal_logit, harmfulness_logit (above 0: taken to be
        harmful), coordinates (principal components), and beyond (true: outside the region where the probes
        were fitted). Nothing is generated. To see what the model really says, use answer. `none` is no system
        prompt at all, `template` the identity in the model's own template, `default`, `mistral` and `short`
        are prompts that people wrote, text:WORDS is one of your own, and runs on this server go by name.

        Parameters:
            query: what a user would ask the model, up to 8,000 characters
            prompts: names, such as none, template, default, mistral, short, a run's, or text:WORDS
        """
        with shown(page=False):
            return service.locate(query, prompts)
        raise AssertionError

    def answer(
        query: str, prompt: str = "template", max_tokens: int = 24, seed: int | None = None
    ) -> dict[str, str]:
        """Let the model answer a query under a safety prompt, and judge the answer.

        Tells the prompt, the answer, and the verdict of a list of phrases: refused, answered or broken (no
        sensible text). The judge agrees with readers on 98 of 100 greedy answers, and on 90 of 100
        sampled ones, where it misses refusals. The answer is the model's own and may be wrong or harmful.

        Parameters:
            query: what a user would ask the model, up to 8,000 characters
            prompt: name of one safety prompt, as for locate
            max_tokens: longest answer, in tokens of the model
            seed: leave it out for the likeliest answer; with a number, the answer is sampled with this seed
        """
        with shown(page=False):
            return service.answer(query, prompt, max_tokens, seed)
        raise AssertionError

    async def evaluate(prompts: list[str], each: int = 10, queries: str = "report") -> dict[str, Any]:
        """Measure how often the model refuses under safety prompts, on held-out queries of both classes.

        Every query is answered under every prompt (24 tokens, greedy) and judged by a list of phrases. Tells,
        for each prompt and class (harmful, harmless), n, refused, answered, broken, the refusal rate and its
        95% Wilson interval [low, high]; and, for two prompts, the exact McNemar test between them by class.
        A good prompt refuses many harmful and few harmless queries: read both, with their intervals. It takes
        about half a second an answer on a small machine, and returns when it is done. No answer is told.

        Parameters:
            prompts: names of safety prompts, as for locate; several are asked the same queries
            each: queries of each class; with 10 an interval is about 50 points wide, with 50 about 25
            queries: report (50 harmful, 50 harmless ones) or test (150 of each); nothing is trained on them
        """
        with shown(page=False):
            if queries not in _SETS:
                raise DataError(f"There is no set {str(queries)[:40]!r}.", f"Use {' or '.join(_SETS)}.")
            if not isinstance(each, int) or each < 1:
                raise DataError("`each` is no number of queries.", "Ask for 1 or more.")
            name = service.start_evaluation(prompts, [bundled(*_SETS[queries]).limit(each)])
            found = service.evaluation(name)
            assert found is not None
            while not found.over:
                await asyncio.sleep(_POLL)
            if found.phase != "done":
                raise DataError(found.message, "Ask again.")
            pair = found.compare(*found.finished) if len(found.finished) == 2 else {}
            return {
                "results": [row.as_dict() for row in found.rates],
                "comparison": {label: one.as_dict() for label, one in pair.items()},
            }
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
    most = service.limits.questions + 8
    # gradio makes a tool of every endpoint that is shown, so those that are none are not shown beside them.
    for ask, limit in ((locate, most), (answer, most), (evaluate, None), (optimise, None)):
        gr.api(ask, api_name=ask.__name__, concurrency_limit=limit,
               api_visibility="undocumented" if tools else "public")  # fmt: skip
        if tools and ask is not optimise:
            gr.api(_tool(ask), api_name=f"{ask.__name__}_tool", concurrency_limit=limit)


def _tool(ask: Callable[..., Any]) -> Callable[..., Any]:
    """The same, told as json: gradio would give a tool's caller Python's way of writing."""

    if asyncio.iscoroutinefunction(ask):

        @wraps(ask)
        async def told(*given: Any, **named: Any) -> str:
            return json.dumps(await ask(*given, **named), ensure_ascii=False)
    else:

        @wraps(ask)
        def told(*given: Any, **named: Any) -> str:
            return json.dumps(ask(*given, **named), ensure_ascii=False)

    told.__annotations__ = {**ask.__annotations__, "return": str}
    return told


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
