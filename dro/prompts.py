"""Safety prompts: none at all, a text, or trained vectors; and the names by which people call them.

none            no system segment
template        the identity that the model's own template writes ("You are Qwen …")
default         Llama-2's long system prompt
mistral         Mistral's
short           the first two sentences of default
template+short  the identity followed by short (any human prompt after the +)
text:…          your own words
a path          a run folder, or a .safetensors file with one tensor `soft_prompt`
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dro.data import check_query
from dro.errors import DataError, StoreError
from dro.store import read_json

if TYPE_CHECKING:
    from dro.rendering import Rendering

SOFT_PROMPT = "soft_prompt"
SOFT_PROMPT_FILE = "soft_prompt.safetensors"
CARD_FILE = "dro_prompt.json"
MAX_SOFT_TOKENS = 2048
MAX_FILE_BYTES = 100_000_000
"""More than the longest prompt of the widest model takes in float32."""

# The texts are public model documentation, quoted with their origin.
HUMAN: Mapping[str, str] = MappingProxyType(
    {
        # Llama 2 (Meta AI, 2023): the system prompt published with the chat models.
        "default": (
            "You are a helpful, respectful and honest assistant. Always answer as helpfully as "
            "possible, while being safe. Your answers should not include any harmful, unethical, "
            "racist, sexist, toxic, dangerous, or illegal content. Please ensure that your responses "
            "are socially unbiased and positive in nature.\n\nIf a question does not make any sense, "
            "or is not factually coherent, explain why instead of answering something not correct. "
            "If you don't know the answer to a question, please don't share false information."
        ),
        # Mistral 7B (Mistral AI, 2023): the guardrail prompt of the documentation.
        "mistral": (
            "Always assist with care, respect, and truth. Respond with utmost utility yet securely. "
            "Avoid harmful, unethical, prejudiced, or negative content. Ensure replies promote "
            "fairness and positivity."
        ),
        # The first two sentences of Llama 2's.
        "short": (
            "You are a helpful, respectful and honest assistant. Always answer as helpfully as "
            "possible, while being safe."
        ),
    }
)
STANDARD = ("template", "none", "default", "mistral", "short")


@dataclass(frozen=True, eq=False)
class SafetyPrompt:
    """A safety prompt as a model receives it.

    Attributes
    ----------
    name: what the user called it.
    text: the system text; None where there is no system segment. For a soft prompt, the text it
        started from, which decides where its slot is cut.
    vectors: float32 (n_tokens, d_model) for a soft prompt, else None.
    """

    name: str
    text: str | None
    vectors: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """ "none", "text" or "soft"."""
        return "soft" if self.vectors is not None else "none" if self.text is None else "text"

    @property
    def digest(self) -> str:
        """A name for the content, whatever the prompt is called."""
        body = b"" if self.vectors is None else self.vectors.tobytes()
        text = "\0none" if self.text is None else self.text
        return hashlib.sha256(text.encode() + b"\0" + body).hexdigest()[:16]


class Known(Protocol):
    """What a prompt's name has to be held against: a model, or its outline."""

    @property
    def name(self) -> str: ...

    @property
    def d_model(self) -> int: ...

    @property
    def rendering(self) -> Rendering: ...


def available(model: Known) -> tuple[str, ...]:
    """The standard names that mean something for this model, in the order they are shown."""
    return tuple(n for n in STANDARD if n != "template" or model.rendering.identity)


def resolve(name: str, model: Known) -> SafetyPrompt:
    """The prompt called `name` (see the module's table), checked against the model.

    Raises
    ------
    DataError: unknown name. StoreError: an unreadable file, or vectors of another width.
    """
    identity = model.rendering.identity
    if name == "none":
        return SafetyPrompt(name, None)
    if name == "template":
        # Without an identity of its own, the template's default is no system segment.
        return SafetyPrompt(name, identity)
    if name.startswith("template+"):
        human = name.removeprefix("template+")
        if human in HUMAN and identity:
            return SafetyPrompt(name, f"{identity} {HUMAN[human]}")
        reason = "has no identity of its own" if human in HUMAN else f"knows no prompt {human!r}"
        raise DataError(f"{name!r}: the template of {model.name} {reason}.", _names())
    if name in HUMAN:
        return SafetyPrompt(name, HUMAN[name])
    if name.startswith("text:"):
        text = name.removeprefix("text:").strip()
        if not text:
            raise DataError("The prompt after text: is empty.", 'Write "text:You are …", or use none.')
        return SafetyPrompt(name, text)
    with contextlib.suppress(OSError):  # a long text without "text:" is too long for a path
        if Path(name).exists():
            return replace(load(name, model.d_model, model.name), name=name)
    raise DataError(f"There is no prompt {name!r}.", _names())


def load(path: str | Path, d_model: int, model_name: str) -> SafetyPrompt:
    """Read a soft prompt from a run folder or a .safetensors file.

    The file holds one tensor `soft_prompt`, (n_tokens, d_model), of any float type: the layout of
    the paper's authors, too.

    Raises
    ------
    StoreError: no such tensor, another width (both are named), or values that are not finite.
    """
    vectors, card = read(path)
    if vectors.shape[1] != d_model:
        raise StoreError(
            f"The soft prompt in {Path(path).name} is {len(vectors)} × {vectors.shape[1]} (width "
            f"{vectors.shape[1]}), but {model_name} has width {d_model}.",
            "Use a prompt that was trained on this model.",
        )
    return SafetyPrompt(str(path), card.get("init_text", HUMAN["short"]), vectors)


def read(path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Vectors, float32 (n_tokens, d_model), and the card beside them ({} where there is none).

    Nothing is known here of the model they are for. Raises StoreError as `load` does.
    """
    path = Path(path)
    file = path / SOFT_PROMPT_FILE if path.is_dir() else path
    if not file.is_file():
        raise StoreError(f"{path} holds no {SOFT_PROMPT_FILE}.", "Is the run finished? Resume it first.")
    vectors = _read_vectors(file)
    if not np.isfinite(vectors).all():
        raise StoreError(f"The soft prompt in {file.name} holds values that are not finite.", "Train anew.")
    card = file.parent / CARD_FILE
    return vectors, _read_card(card) if card.is_file() else {}


def save(prompt: SafetyPrompt, folder: Path, card: Mapping[str, Any]) -> None:
    """Write a soft prompt and what it belongs to (`card`: base model, training, …) into `folder`."""
    from safetensors.numpy import save as to_bytes

    from dro.store import write_bytes, write_json

    if prompt.vectors is None:
        raise DataError(f"{prompt.name!r} has no vectors to save.", "Only trained prompts are saved.")
    write_json(folder / CARD_FILE, {**card, "init_text": prompt.text})
    write_bytes(folder / SOFT_PROMPT_FILE, to_bytes({SOFT_PROMPT: prompt.vectors}))


def _read_vectors(file: Path) -> np.ndarray:
    from safetensors import SafetensorError, safe_open

    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(
                f"{file.stat().st_size / 1e6:.0f} MB; at most {MAX_FILE_BYTES / 1e6:.0f} are read"
            )
        # Through torch: numpy has no bfloat16.
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
            if names != [SOFT_PROMPT]:
                raise StoreError(
                    f"{file.name} holds {', '.join(names[:5]) or 'nothing'}; one tensor "
                    f"`{SOFT_PROMPT}` is expected.",
                    "Save the prompt under that name.",
                )
            # The shape first: a header costs nothing, whatever it promises.
            _check_shape(file, tensors.get_slice(SOFT_PROMPT).get_shape())
            tensor = tensors.get_tensor(SOFT_PROMPT)
            if not tensor.is_floating_point():
                kind = str(tensor.dtype).removeprefix("torch.")
                raise StoreError(f"The soft prompt in {file.name} holds numbers of type {kind}, no vectors.",
                                 "Use the file of a trained prompt.")  # fmt: skip
            return tensor.float().numpy()
    # An unknown dtype, or a shape beyond all memory, is told by torch in its own ways.
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        raise StoreError(f"{file.name} is no safetensors file ({error}).", "Save it anew.") from None


def _check_shape(file: Path, shape: list[int]) -> None:
    if len(shape) != 2 or not all(shape):
        found = " × ".join(map(str, shape)) or "a number"
        raise StoreError(
            f"The soft prompt in {file.name} is {found} ({len(shape)} dimensions); a table of vectors is "
            "expected.",
            "Use the file of a trained prompt.",
        )
    if shape[0] > MAX_SOFT_TOKENS:
        raise StoreError(
            f"The soft prompt in {file.name} has {shape[0]:,} tokens of at most {MAX_SOFT_TOKENS:,}.",
            "Train a shorter one.",
        )


def _read_card(card: Path) -> dict[str, Any]:
    remedy = "Restore it or delete it."
    if card.stat().st_size > MAX_FILE_BYTES:
        raise StoreError(f"{card} is damaged (it is too large).", remedy)
    told = read_json(card, remedy)
    try:
        check_query(told.get("init_text"))
    except DataError as error:
        raise StoreError(f"{card} is damaged (init_text: {error.cause}).", remedy) from None
    return told


def _names() -> str:
    return (
        f"Use {', '.join(STANDARD)}, template+short, text:… for your own words, a run folder, or a "
        ".safetensors file."
    )
