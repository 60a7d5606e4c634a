"""What the desk asks of the loaded model: places and answers of several visitors' questions at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dro.prompts import SafetyPrompt
from explorer import gpu
from explorer.lent import decoding_of, openings, places, words
from explorer.loading import Loaded


class ModelWork:
    """Questions to one loaded model. check_same raises where another was loaded while they waited."""

    def __init__(self, loaded: Loaded, check_same: Callable[[Loaded], None]) -> None:
        self.loaded, self._check_same = loaded, check_same

    def place(self, asked: Sequence[tuple[SafetyPrompt, str]]) -> list[Any]:
        """Where each query lies under its prompt, a Point each, in one pass."""
        from dro.states import states_of

        self._check_same(self.loaded)
        loaded = self.loaded
        assert loaded.space is not None
        loaded.space.check_model(loaded.model)
        states = gpu.ask(places, asked) if gpu.LENT else states_of(loaded.model, asked, loaded.prefixes)
        return [loaded.space.points(asked[row][0].name, states[[row]])[0] for row in range(len(asked))]

    def write(
        self,
        asked: Sequence[tuple[SafetyPrompt, str]],
        longest: Sequence[int],
        seed: int | None,
        wanted: Callable[[int], bool],
    ) -> Iterator[list[tuple[str, bool]]]:
        """Answers side by side, greedy without a seed; a token of each at a time."""
        from dro.generate import stream_asked

        if gpu.LENT:
            for told in gpu.follow(words, asked, longest, seed):
                yield told
                if not any(map(wanted, range(len(asked)))):
                    return
            return
        decoding, loaded = decoding_of(longest, seed), self.loaded
        for told in stream_asked(loaded.model, asked, decoding, loaded.prefixes, longest, wanted):
            self._check_same(loaded)
            yield told


class OpeningsWork(ModelWork):
    """What an answer is likely to begin with, instead of where its query lies."""

    def place(self, asked: Sequence[tuple[SafetyPrompt, str]]) -> list[Any]:
        """The likeliest first tokens of each answer, in one pass."""
        from dro.first_token import likeliest
        from dro.states import states_of

        self._check_same(self.loaded)
        if gpu.LENT:
            return gpu.ask(openings, asked)
        states = states_of(self.loaded.model, asked, self.loaded.prefixes)
        return likeliest(self.loaded.model, states)
