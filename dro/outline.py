"""What is known of a model without its weights: its name, revision, width, and how it writes a turn."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from dro import models, pretrained, shapes
from dro.models import ChatModel
from dro.registry import REGISTRY
from dro.rendering import Rendering, from_chat_template
from dro.shapes import SHAPES
from dro.sources import Progress, silent
from dro.store import content_hash


@dataclass(frozen=True)
class Outline:
    """A model as a prompt's card speaks of it.

    revision: "" where only loading tells. d_model: width of its embeddings. source: folder or hub id.
    """

    name: str
    revision: str
    d_model: int
    rendering: Rendering
    source: str

    @property
    def template(self) -> str:
        """A name for the content of the rendering, as spaces and prompts' cards keep it."""
        return template_hash(self.rendering)

    @property
    def hub_id(self) -> str | None:
        """Where the Hub has it, as far as we know."""
        return REGISTRY[self.name].hub_id if self.name in REGISTRY else None

    @property
    def licence(self) -> str:
        """The licence of the weights, as the Hub abbreviates it."""
        return REGISTRY[self.name].licence if self.name in REGISTRY else "other"


def template_hash(rendering: Rendering) -> str:
    """16 hexadecimal digits that name a rendering's content."""
    return content_hash(asdict(rendering))[:16]


def of_model(model: ChatModel) -> Outline:
    """The outline of a model that is loaded."""
    source = str(getattr(model.model.config, "_name_or_path", "") or model.name)
    return Outline(model.name, model.revision, model.d_model, model.rendering, source)


def of_name(name: str, rendering: Rendering | None = None, progress: Progress = silent) -> Outline:
    """The outline of a model by name (see `models.load`); a shape we know needs no file at all.

    Raises
    ------
    ModelError: unknown name, no network, no chat template.
    """
    if name in SHAPES:
        known = REGISTRY[name].rendering if name in REGISTRY else None
        width = int(SHAPES[name]["hidden_size"])
        return Outline(name, "", width, rendering or known or shapes.RENDERING, name)
    found = models.find(name, progress)
    config = pretrained.read_config(found.source, found.name)
    stated = rendering or found.rendering
    if stated is None:
        stated = from_chat_template(pretrained.read_tokenizer(found.source, found.name), found.name)
    revision = found.revision or str(getattr(config, "_commit_hash", None) or "")
    return Outline(found.name, revision, int(config.get_text_config().hidden_size), stated, str(found.source))
