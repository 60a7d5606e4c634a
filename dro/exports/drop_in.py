"""A whole model that speaks with a safety prompt by itself, for servers that know nothing of soft prompts.

The vectors become the embedding rows of new special tokens, which a chat template writes where the safety
prompt stands (`insertion`). Nobody is to see these tokens again: they are suppressed in generation, and
their rows of the head are the mean of all others, so that their logits can never be the greatest, whatever
a server makes of generation_config.json. The head is thus another matrix than the embeddings, also where
the base model ties the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dro import pretrained
from dro.errors import ModelError
from dro.exports.insertion import Insertion, gives, insertion
from dro.models import ChatModel
from dro.prompts import SafetyPrompt

if TYPE_CHECKING:
    import torch

_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p")
"""What is taken over of the base model's generation settings: nothing that changes greedy answers."""


def write(model: ChatModel, prompt: SafetyPrompt, folder: Path) -> Insertion:
    """Write the model with the prompt built in, in the model's own dtype; the model stays as it is.

    Raises
    ------
    ModelError: 4-bit weights, or a tokenizer that cannot write the ids that the prompt was trained with.
    """
    if model.precision == "4bit":
        raise ModelError("Weights in 4bit are not written.", "Export with --precision bf16 or fp32.")
    found = insertion(model, prompt)
    made = _with_rows(model, prompt, found)
    made.generation_config = _generation(model, found)
    made.save_pretrained(folder)
    found.tokenizer.save_pretrained(folder)
    check(folder, found)
    return found


def check(folder: Path, found: Insertion) -> None:
    """Raise unless the tokenizer in `folder`, read as anybody reads it, writes the ids it should."""
    if not gives(pretrained.read_tokenizer(folder, str(folder)), found.wanted):
        raise ModelError(
            "The tokenizer does not come back from its files as it was written.",
            "Export with --to safetensors, and serve with this program.",
        )


def _with_rows(model: ChatModel, prompt: SafetyPrompt, found: Insertion) -> Any:
    """A model with the same weights, the tokens' rows added, and a head of its own."""
    import copy

    import torch

    base = model.model
    embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
    ids = torch.tensor(found.ids)
    size = max(len(embeddings.weight), int(ids.max()) + 1)
    vectors = torch.from_numpy(prompt.vectors).to(model.dtype)
    # Some families multiply what they look up.
    scale = torch.as_tensor(getattr(embeddings, "embed_scale", 1.0), dtype=torch.float32).cpu()
    known = int(min(ids))
    never = head.weight[:known].float().mean(dim=0).to(head.weight.dtype)
    config = copy.deepcopy(base.config)
    config.vocab_size, config.tie_word_embeddings = size, False
    with torch.device("meta"):
        made = type(base)(config).to(model.dtype)
    weights = dict(base.state_dict())
    _name(made, made.get_input_embeddings(), weights, _grown(embeddings.weight, size, ids, vectors / scale))
    _name(made, made.get_output_embeddings(), weights, _grown(head.weight, size, ids, never))
    if head.bias is not None:
        bias = _grown(head.bias, size, ids, torch.tensor(-1e4))
        _name(made, made.get_output_embeddings(), weights, bias, "bias")
    missing, unexpected = made.load_state_dict(weights, strict=False, assign=True)
    if missing or unexpected:
        raise ModelError(
            f"{type(base).__name__} does not take its own weights with another vocabulary: "
            f"{', '.join([*missing, *unexpected][:3])}.",
            "Export with --to safetensors.",
        )
    return made


def _grown(weight: torch.Tensor, size: int, ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`weight` with `size` rows; `rows` at `ids`, zeros in what else is new."""
    made = weight.new_zeros((size, *weight.shape[1:]))
    made[: len(weight)] = weight
    made[ids] = rows.to(made)
    return made


def _name(model: Any, module: Any, weights: dict[str, Any], tensor: Any, kind: str = "weight") -> None:
    """Put a module's tensor under its name among the weights."""
    path = next(path for path, each in model.named_modules() if each is module)
    weights[f"{path}.{kind}"] = tensor


def _generation(model: ChatModel, found: Insertion) -> Any:
    """Stops as ours; the tokens suppressed; the base model's sampling, but no penalties, which would
    give other greedy answers than those that were measured."""
    from transformers import GenerationConfig

    base = getattr(model.model, "generation_config", None)
    kept = {name: getattr(base, name, None) for name in _SAMPLING}
    pad = model.tokenizer.pad_token_id
    return GenerationConfig(
        **{name: value for name, value in kept.items() if value is not None},
        eos_token_id=sorted(model.stop_ids),
        bos_token_id=model.tokenizer.bos_token_id,
        pad_token_id=pad if pad is not None else min(model.stop_ids, default=None),
        suppress_tokens=list(found.ids),
    )
