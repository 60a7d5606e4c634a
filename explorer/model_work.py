"""What the desk asks of the loaded model: places and answers of several visitors' questions at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dro.prompts import SafetyPrompt
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
        states = states_of(loaded.model, asked, loaded.prefixes)
        return [loaded.space.points(asked[row][0].name, states[[row]])[0] for row in range(len(asked))]

    def write(
        self,
        asked: Sequence[tuple[SafetyPrompt, str]],
        longest: Sequence[int],
        seed: int | None,
        wanted: Callable[[int], bool],
    ) -> Iterator[list[tuple[str, bool]]]:
        """Answers side by side, greedy without a seed; a token of each at a time."""
        from dro.generate import Decoding, stream_asked

        most = max(longest)
        decoding = Decoding(most) if seed is None else Decoding(most, temperature=1.0, seed=seed)
        for told in stream_asked(self.loaded.model, asked, decoding, self.loaded.prefixes, longest, wanted):
            self._check_same(self.loaded)
            yield told


class OpeningsWork(ModelWork):
    """What an answer is likely to begin with, instead of where its query lies."""

    def place(self, asked: Sequence[tuple[SafetyPrompt, str]]) -> list[Any]:
        """The likeliest first tokens of each answer, in one pass."""
        from dro.first_token import likeliest
        from dro.states import states_of

        self._check_same(self.loaded)
        states = states_of(self.loaded.model, asked, self.loaded.prefixes)
        return likeliest(self.loaded.model, states)
