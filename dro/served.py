"""Answers of a model that somebody serves, through the OpenAI protocol: what was deployed, measured.

A server is sent text alone. Without a system message it speaks under whatever prompt it was deployed with,
which is called "served"; a text prompt is sent as a system message. The key is read from OPENAI_API_KEY.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

from dro.data import check_query
from dro.errors import DataError, ModelError
from dro.generate import Decoding
from dro.prompts import HUMAN, SafetyPrompt
from dro.sources import Progress, silent

SERVED = "served"
_TRIES = 4
_SECONDS = 600
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Server:
    """A server of the OpenAI protocol.

    Attributes
    ----------
    base_url: up to and with its version, such as http://127.0.0.1:8000/v1. model: as the server calls it.
    at_once: requests that may be on their way together. wait: seconds before a second try.
    """

    base_url: str
    model: str
    at_once: int = 4
    wait: float = 1.0

    def answers(
        self,
        prompt: SafetyPrompt,
        queries: Sequence[str],
        decoding: Decoding = Decoding(),
        progress: Progress = silent,
    ) -> list[list[str]]:
        """As `generate.answers`: for each query `decoding.samples` texts. top_k is no part of the protocol.

        Raises
        ------
        ModelError: the server cannot be reached, refuses, or answers something else.
        """
        asked = [(check_query(query), sample) for query, sample in product(queries, range(decoding.samples))]

        def ask(one: tuple[str, int]) -> str:
            return self._answer(prompt, one[0], decoding, decoding.seed + one[1])

        said: list[str] = []
        with ThreadPoolExecutor(self.at_once) as pool:
            try:
                for answer in pool.map(ask, asked):
                    said.append(answer)
                    progress(f"Answers under {prompt.name}", len(said) / len(asked))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [said[start : start + decoding.samples] for start in range(0, len(said), decoding.samples)]

    def _answer(self, prompt: SafetyPrompt, query: str, decoding: Decoding, seed: int) -> str:
        system = [] if prompt.text is None else [{"role": "system", "content": prompt.text}]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": query}],
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature,
        }
        if decoding.temperature > 0:
            body |= {"top_p": decoding.top_p, "seed": seed}
        told = self._call("chat/completions", body)
        try:
            return str(told["choices"][0]["message"]["content"] or "").strip()
        except (KeyError, IndexError, TypeError):
            raise ModelError(
                f"{self.base_url} answered {json.dumps(told)[:200]}, which is no chat completion.",
                "Give the address of a server of the OpenAI protocol.",
            ) from None

    def _call(self, path: str, body: Any = None) -> Any:
        """POST `body` as json (GET without one); tries again where that may help."""
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base_url.rstrip('/')}/{path}", data, headers)
        for pause in self._pauses():
            try:
                with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code not in _AGAIN or pause is None:
                    raise self._refused(error) from None
            except (OSError, ValueError) as error:
                if pause is None or isinstance(error, ValueError):
                    raise ModelError(
                        f"{self.base_url} gives no answer ({getattr(error, 'reason', error)}).",
                        "Is the server up, and is this its address, /v1 included?",
                    ) from None
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _pauses(self) -> Iterator[float | None]:
        """Seconds to wait after each try; None after the last."""
        yield from (self.wait * 2**number for number in range(_TRIES - 1))
        yield None

    def _refused(self, error: urllib.error.HTTPError) -> ModelError:
        said = " ".join(error.read(500).decode(errors="replace").split())
        remedy = "Set OPENAI_API_KEY." if error.code in (401, 403) else "Check --base-url and --served-model."
        return ModelError(f"{self.base_url} refused {self.model} ({error.code}): {said[:300]}", remedy)


def connect(base_url: str, model: str = "", at_once: int = 4) -> Server:
    """A server by its address. model: as the server calls it; where it serves only one, that one.

    Raises
    ------
    DataError: no address, or no model named where there are several. ModelError: it cannot be reached.
    """
    if not base_url.startswith(("http://", "https://")):
        raise DataError(
            f"{base_url!r} is no address of a server.", "Such as --base-url http://127.0.0.1:8000/v1."
        )
    server = Server(base_url, model, at_once)
    if model:
        return server
    told = server._call("models")
    listed = told.get("data") if isinstance(told, dict) else None
    names = [str(one["id"]) for one in listed or [] if isinstance(one, dict) and "id" in one]
    if len(names) != 1:
        raise DataError(f"{base_url} serves {', '.join(names[:5]) or 'no model it names'}.",
                        "Name one: --served-model NAME.")  # fmt: skip
    return Server(base_url, names[0], at_once)


def resolve(name: str) -> SafetyPrompt:
    """A prompt that can be sent to a server, by name.

    served        nothing is sent: what the server does by itself
    default, mistral, short, text:…   sent as a system message
    """
    if name == SERVED:
        return SafetyPrompt(name, None)
    if name in HUMAN:
        return SafetyPrompt(name, HUMAN[name])
    if name.startswith("text:") and name.removeprefix("text:").strip():
        return SafetyPrompt(name, name.removeprefix("text:").strip())
    raise DataError(
        f"The prompt {name!r} cannot be sent to a server.",
        f"Use {SERVED} for what it was deployed with, {', '.join(HUMAN)}, or text:… for your own words.",
    )
