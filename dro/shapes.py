"""Models of a known shape with random weights: time and memory of a large model without its weights.

Built matrix by matrix in the wanted precision, so that nothing larger than the model itself is ever in
memory. In 4bit a matrix's packed values are drawn at random; its scales are those of one matrix of
that shape that was drawn from a normal distribution and quantised.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dro import footprint, pretrained
from dro.data import bundled
from dro.errors import DataError
from dro.models import ChatModel, auto_precision
from dro.prompts import HUMAN
from dro.rendering import Rendering
from dro.sources import Progress, silent

_STD = 0.02
_LLAMA = {"architecture": "llama", "vocab_size": 32000, "max_position_embeddings": 4096}
_QWEN = {"architecture": "qwen2", "vocab_size": 151936, "max_position_embeddings": 32768}
_FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
           "num_key_value_heads")  # fmt: skip


def _shape(family: Mapping[str, Any], *numbers: int, **changes: Any) -> Mapping[str, Any]:
    return MappingProxyType({**family, **dict(zip(_FIELDS, numbers, strict=True)), **changes})


SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama-2-7b": _shape(_LLAMA, 4096, 11008, 32, 32, 32),
        "llama-2-13b": _shape(_LLAMA, 5120, 13824, 40, 40, 40),
        "mistral-7b": _shape(_LLAMA, 4096, 14336, 32, 32, 8, architecture="mistral", sliding_window=None),
        "qwen-0.5b": _shape(_QWEN, 896, 4864, 24, 14, 2),
        "qwen-1.5b": _shape(_QWEN, 1536, 8960, 28, 12, 2),
        "qwen-3b": _shape(_QWEN, 2048, 11008, 36, 16, 2),
        "qwen-7b": _shape(_QWEN, 3584, 18944, 28, 28, 4, vocab_size=152064),
    }
)
RENDERING = Rendering("<s>[INST] {system}\n{query}[/INST]", "<s>[INST] {query}[/INST]")


def build(
    name: str, precision: str = "4bit", progress: Progress = silent, device: str = "auto", seed: int = 0,
    **changes: Any,
) -> ChatModel:  # fmt: skip
    """A frozen random model of the shape called `name`; `changes` replace fields of its configuration.

    Raises
    ------
    DataError: unknown name. ModelError: it does not fit into memory, told before anything is taken.
    """
    import torch

    from dro import shared_prefix

    if name not in SHAPES:
        raise DataError(f"There is no shape {name!r}.", f"Use one of {', '.join(SHAPES)}.")
    pretrained.check_device(device)
    cuda = device != "cpu" and torch.cuda.is_available()
    chosen = auto_precision(device) if precision == "auto" else precision
    config, kind = _config({**SHAPES[name], **changes})
    footprint.check(footprint.of_config(config), chosen, cuda, name)
    config._attn_implementation = shared_prefix.IMPLEMENTATION
    dtype = torch.float32 if chosen == "fp32" else torch.bfloat16
    with torch.device("meta"):
        model = kind(config).to(dtype)
    place = torch.device("cuda" if cuda else "cpu")
    random = torch.Generator(place).manual_seed(seed)
    filled = _Filler(place, dtype, random, chosen == "4bit")
    modules = list(model.named_modules())
    for number, (path, module) in enumerate(modules):
        filled.fill(model, path, module)
        progress(f"Building {name}", number / len(modules))
    model.tie_weights()
    model.eval().requires_grad_(False)
    if chosen == "4bit":
        pretrained.keep_gradients(model)
    progress(f"Building {name}", 1.0)
    tokenizer = _tokenizer()
    return ChatModel(f"random-{name}", f"seed{seed}", chosen, model, tokenizer, RENDERING)


def _config(fields: Mapping[str, Any]) -> tuple[Any, Any]:
    import transformers

    kinds = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}
    rest = {k: v for k, v in fields.items() if k != "architecture"}
    kind = kinds[fields["architecture"]]
    config = getattr(transformers, f"{kind}Config")(
        **rest, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None
    )
    return config, getattr(transformers, f"{kind}ForCausalLM")


class _Filler:
    """Gives the modules of a model without memory their weights."""

    def __init__(self, place: Any, dtype: Any, random: Any, quantise: bool) -> None:
        self.place, self.dtype, self.random, self.quantise = place, dtype, random, quantise
        self._scales: dict[tuple[int, int], Any] = {}

    def fill(self, model: Any, path: str, module: Any) -> None:
        """Weights of one module; its children come by themselves."""
        import torch

        if self.quantise and isinstance(module, torch.nn.Linear) and "lm_head" not in path:
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, self._nf4(module))
            return
        for name, weight in list(module.named_parameters(recurse=False)):
            made = self._normal(weight.shape) if weight.dim() > 1 else self._vector(name, weight.shape)
            setattr(module, name, torch.nn.Parameter(made, requires_grad=False))
        if list(module.named_buffers(recurse=False)):
            # Rotary frequencies: they follow from the configuration alone.
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, type(module)(module.config).to(self.place))

    def _normal(self, shape: Any) -> Any:
        import torch

        made = torch.empty(shape, dtype=self.dtype, device=self.place)
        return made.normal_(0.0, _STD, generator=self.random)

    def _vector(self, name: str, shape: Any) -> Any:
        import torch

        fill = torch.zeros if name == "bias" else torch.ones
        return fill(shape, dtype=self.dtype, device=self.place)

    def _nf4(self, module: Any) -> Any:
        import bitsandbytes as bnb
        import torch

        made = bnb.nn.Linear4bit(
            module.in_features, module.out_features, bias=module.bias is not None, device="meta",
            compute_dtype=torch.bfloat16, quant_type="nf4", compress_statistics=True,
        )  # fmt: skip
        shape = (module.out_features, module.in_features)
        if shape not in self._scales:
            _, self._scales[shape] = bnb.functional.quantize_4bit(
                self._normal(shape), quant_type="nf4", compress_statistics=True
            )
        packed = torch.empty((shape[0] * shape[1] // 2, 1), dtype=torch.uint8, device=self.place)
        made.weight = bnb.nn.Params4bit(
            packed.random_(0, 256, generator=self.random), requires_grad=False,
            quant_state=copy.deepcopy(self._scales[shape]), quant_type="nf4", compress_statistics=True,
            bnb_quantized=True, module=made,
        )  # fmt: skip
        made.quant_state = made.weight.quant_state
        if module.bias is not None:
            made.bias = torch.nn.Parameter(self._vector("bias", module.bias.shape), requires_grad=False)
        return made


def _tokenizer() -> Any:
    """Pieces of words as common tokenizers have them, learnt from the anchors, and the marks of a turn."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=3000, show_progress=False, special_tokens=["<s>", "</s>", "[INST]", "[/INST]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator([*HUMAN.values(), *bundled("anchors").texts], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>",
                                   clean_up_tokenization_spaces=False)  # fmt: skip
