"""Chat models: the registry, and the only place that calls from_pretrained.

`load` takes a registry name, a hub id, a local folder or a .gguf file, and gives a frozen `ChatModel`.
Code that comes with a model is never run (trust_remote_code stays off).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from dro.errors import DataError, ModelError
from dro.rendering import Rendering, from_chat_template
from dro.sources import DEFAULT_GGUF, Progress, cache_folder, fetch, locked, need_space, sha256_of, silent

if TYPE_CHECKING:
    import torch

    from dro.encoding import Encoder

Precision = Literal["auto", "bf16", "fp32", "4bit"]
PRECISIONS: tuple[Precision, ...] = ("auto", "bf16", "fp32", "4bit")
DEFAULT = "qwen2.5-coder-0.5b"


@dataclass(frozen=True)
class ModelSpec:
    """A model the registry knows: where it lives, and how it writes a turn where that is stated."""

    name: str
    hub_id: str
    billions: float
    rendering: Rendering | None = None
    note: str = ""


_LLAMA = Rendering(
    "<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{query} [/INST]", "<s>[INST] {query} [/INST]"
)
_MISTRAL = Rendering("<s>[INST] {system}\n\n{query} [/INST]", "<s>[INST] {query} [/INST]")
_VICUNA = Rendering("<s>{system}\n\nUSER: {query}\nASSISTANT:", "<s>USER: {query}\nASSISTANT:")
_ORCA = Rendering(
    "<s><|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{query}<|im_end|>\n"
    "<|im_start|>assistant\n",
    "<s><|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n",
)
_OPENCHAT = Rendering(
    "<s>{system}<|end_of_turn|>GPT4 Correct User: {query}<|end_of_turn|>GPT4 Correct Assistant:",
    "<s>GPT4 Correct User: {query}<|end_of_turn|>GPT4 Correct Assistant:",
)

_PAPER = "one of the paper's eight"
REGISTRY: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            ModelSpec(DEFAULT, "Qwen/Qwen2.5-Coder-0.5B-Instruct", 0.6, note="default; Q4_K_M weights"),
            ModelSpec("llama-2-7b", "meta-llama/Llama-2-7b-chat-hf", 6.7, _LLAMA, f"{_PAPER}; gated"),
            ModelSpec("codellama-7b", "codellama/CodeLlama-7b-Instruct-hf", 6.7, _LLAMA, _PAPER),
            ModelSpec("vicuna-7b", "lmsys/vicuna-7b-v1.5", 6.7, _VICUNA, _PAPER),
            ModelSpec("orca-2-7b", "microsoft/Orca-2-7b", 6.7, _ORCA, _PAPER),
            ModelSpec("mistral-7b-v0.1", "mistralai/Mistral-7B-Instruct-v0.1", 7.2, _MISTRAL, _PAPER),
            ModelSpec("mistral-7b-v0.2", "mistralai/Mistral-7B-Instruct-v0.2", 7.2, _MISTRAL, _PAPER),
            ModelSpec("openchat-3.5", "openchat/openchat-3.5", 7.2, _OPENCHAT, _PAPER),
            ModelSpec("openchat-3.5-1210", "openchat/openchat-3.5-1210", 7.2, _OPENCHAT, _PAPER),
        )
    }
)


@dataclass(eq=False)
class ChatModel:
    """A loaded chat model, frozen: its weights never receive gradients.

    Attributes
    ----------
    name, revision: which weights these are; part of the provenance of every result.
    precision: "bf16", "fp32" or "4bit", as loaded.
    model: the transformers model. tokenizer: its tokenizer. rendering: how it writes a turn.
    """

    name: str
    revision: str
    precision: str
    model: Any
    tokenizer: Any
    rendering: Rendering
    _extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def encoder(self) -> Encoder:
        from dro.encoding import Encoder

        return Encoder(self.tokenizer, self.rendering)

    @property
    def backbone(self) -> torch.nn.Module:
        """The model without its vocabulary head; its output is taken after the final norm."""
        return self.model.base_model

    @property
    def d_model(self) -> int:
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    @property
    def key(self) -> str:
        """Name, revision and precision as one word, fit for a file name."""
        return f"{slug(self.name)}-{self.revision[:8]}-{self.precision}"

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: end (or start) of text, padding, and the template's end of a turn."""
        config = getattr(self.model, "generation_config", None)
        ends = getattr(config, "eos_token_id", None)
        flat = {*ends} if isinstance(ends, list) else {ends}
        flat |= {getattr(self.tokenizer, f"{kind}_token_id") for kind in ("eos", "bos", "pad")}
        flat -= {None}
        after = self.rendering.pieces(None)[2]
        added = {str(t): i for i, t in self.tokenizer.added_tokens_decoder.items()}
        first = min((t for t in added if t in after), key=after.find, default=None)
        return frozenset(flat | ({added[first]} if first else set()))

    def embed(self, ids: Any) -> torch.Tensor:
        """Embeddings of token ids (T,) as (T, d_model), in the model's dtype."""
        import torch

        tensor = torch.as_tensor(ids, dtype=torch.long, device=self.device)
        return self.model.get_input_embeddings()(tensor).detach()


def slug(name: str) -> str:
    """A name reduced to what is safe in a file name."""
    return re.sub(r"[^a-z0-9.]+", "-", Path(name).name.lower()).strip("-.") or "model"


def auto_precision() -> Literal["bf16", "fp32"]:
    """bf16 where the hardware multiplies it faster than fp32, else fp32."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, lambda: False)() for name in supported)
    return "bf16" if fast else "fp32"


def load(
    name: str = DEFAULT,
    precision: Precision = "auto",
    rendering: Rendering | None = None,
    progress: Progress = silent,
) -> ChatModel:
    """Load a chat model.

    Parameters
    ----------
    name: a name of `REGISTRY`, a hub id "org/name", a local folder, or a .gguf file.
    precision: "auto" is bf16 where the hardware has it, else fp32; "4bit" is NF4 by bitsandbytes.
    rendering: how a turn is written; overrides the registry and the chat template.

    Raises
    ------
    ModelError: unknown name, no network, no chat template, unsupported architecture, wrong hash, full
        disk; the message says what to do.
    """
    if precision not in PRECISIONS:
        raise DataError(f"There is no precision {precision!r}.", f"Use one of {', '.join(PRECISIONS)}.")
    spec = REGISTRY.get(name) or next((s for s in REGISTRY.values() if s.hub_id == name), None)
    if spec is not None and spec.name == DEFAULT:
        source: str | Path = _default_folder(progress)
        revision, shown = DEFAULT_GGUF.sha256, DEFAULT
    elif spec is not None:
        source, revision, shown = spec.hub_id, "", spec.name
    elif Path(name).suffix == ".gguf" and Path(name).is_file():
        source, revision = _converted(Path(name), progress)
        shown = Path(name).stem
    elif Path(name).is_dir():
        source, revision, shown = Path(name), _folder_revision(Path(name)), Path(name).resolve().name
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "/")):
        source, revision, shown = name, "", name
    else:
        raise ModelError(
            f"There is no model {name!r}.",
            f"Use one of {', '.join(REGISTRY)}, a hub id (org/name), a local folder or a .gguf file.",
        )
    progress(f"Loading {shown}", 0.0)
    chosen = auto_precision() if precision == "auto" else precision
    model, tokenizer = _from_pretrained(source, chosen, shown)
    if not revision:
        revision = str(getattr(model.config, "_commit_hash", None) or "unknown")
    stated = rendering or (spec.rendering if spec else None)
    loaded = ChatModel(shown, revision, chosen, model, tokenizer,
                       stated or from_chat_template(tokenizer, shown))  # fmt: skip
    if spec is None:
        _check_supported(loaded)
    progress(f"Loading {shown}", 1.0)
    return loaded


def _from_pretrained(source: str | Path, precision: str, shown: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from dro import shared_prefix

    logging.disable_progress_bar()
    options: dict[str, Any] = {"trust_remote_code": False}
    cuda = torch.cuda.is_available()
    if precision == "4bit":
        options |= {"quantization_config": _nf4(), "dtype": torch.bfloat16}
        options["device_map"] = "auto" if cuda else {"": "cpu"}
    else:
        options["dtype"] = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        options |= {"device_map": "auto"} if cuda else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            source, attn_implementation=shared_prefix.IMPLEMENTATION, **options
        )
    except Exception as error:
        raise _explain(error, source, shown) from error
    model.eval().requires_grad_(False)
    if precision == "4bit":
        _keep_gradients(model)
    return model, tokenizer


def _nf4() -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise ModelError("4bit needs bitsandbytes.", "pip install bitsandbytes") from None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _keep_gradients(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for a CPU kernel that has no backward.

    On CPUs with AVX512-BF16 the first pass without gradients would do so, and every later gradient
    to a soft prompt would silently be zero.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _explain(error: Exception, source: str | Path, shown: str) -> ModelError:
    text = str(error)
    first = text.strip().splitlines()[0][:300] if text.strip() else type(error).__name__
    lowered = text.lower()
    if "gated" in lowered or "401" in text or "403" in text:
        return ModelError(f"{shown} is gated on the hub.", "Accept its terms there and set HF_TOKEN.")
    if "trust_remote_code" in lowered or "custom code" in lowered:
        return ModelError(
            f"{shown} comes with its own code, which is never run here.",
            "Choose a model that transformers itself supports.",
        )
    if "does not recognize this architecture" in lowered or "unrecognized" in lowered:
        return ModelError(
            f"{shown} has an architecture that transformers does not know as a causal language model.",
            "Choose a decoder-only chat model, or upgrade transformers.",
        )
    if isinstance(source, Path):
        return ModelError(
            f"{shown} cannot be read: {first}",
            "A model folder needs config.json, *.safetensors and tokenizer.json.",
        )
    if isinstance(error, OSError | ConnectionError):
        return ModelError(
            f"{shown} could not be fetched from the Hugging Face Hub: {first}",
            "Check the spelling and the network, or give a local folder: --model FOLDER.",
        )
    return ModelError(f"{shown} cannot be loaded: {first}", "Choose a decoder-only chat model.")


def _default_folder(progress: Progress) -> Path:
    """The default model as a folder of safetensors; fetched and converted at the first call."""
    models = cache_folder() / "models"
    folder = models / f"{DEFAULT}-{DEFAULT_GGUF.sha256[:12]}"
    if not (folder / "config.json").exists():
        gguf = fetch(DEFAULT_GGUF, models, progress)
        _convert(gguf, folder, progress)
        gguf.unlink(missing_ok=True)  # one copy is enough; the hash of its source names the folder
    return folder


def _converted(gguf: Path, progress: Progress) -> tuple[Path, str]:
    progress(f"Reading {gguf.name}", 0.0)
    revision = sha256_of(gguf)
    folder = cache_folder() / "models" / f"{slug(gguf.stem)}-{revision[:12]}"
    if not (folder / "config.json").exists():
        _convert(gguf, folder, progress)
    return folder, revision


def _convert(gguf: Path, folder: Path, progress: Progress) -> None:
    """Write a .gguf file as a folder of bf16 safetensors and a tokenizer.json, atomically.

    Reading GGUF takes transformers ten times as long; 4-bit weights lose nothing measurable in bf16.
    """
    import contextlib
    import io
    import shutil
    import tempfile

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    with locked(folder.parent):
        if (folder / "config.json").exists():
            return
        need_space(folder.parent, 4 * gguf.stat().st_size)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            progress(f"Converting {gguf.name} (once, about a minute)", 0.1)
            place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
            with contextlib.redirect_stderr(io.StringIO()):  # its own bar would break ours
                model = AutoModelForCausalLM.from_pretrained(
                    **place, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
                ).to(torch.bfloat16)
            progress(f"Converting {gguf.name} (once, about a minute)", 0.7)
            tokenizer = AutoTokenizer.from_pretrained(**place)
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            temporary.rename(folder)
            progress(f"Converting {gguf.name} (once, about a minute)", 1.0)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ModelError(
                f"{gguf.name} cannot be converted: {str(error).splitlines()[0][:300]}",
                "Use a GGUF file of an architecture that transformers reads, or the original weights.",
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _folder_revision(folder: Path) -> str:
    """A name for the content of a local folder: its configuration, and the head of every weight file."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".jinja", ".safetensors", ".model"):
            with path.open("rb") as stream:
                digest.update(f"{path.name}:{path.stat().st_size}:".encode() + stream.read(1 << 22))
    return digest.hexdigest()


def _check_supported(loaded: ChatModel) -> None:
    """Compare the shared-prefix forward pass with the model's own on a few tokens.

    Architectures outside the registry may keep positions or attention elsewhere than we look.
    """
    import torch

    from dro import shared_prefix

    ids = torch.arange(3, 9, device=loaded.device) % loaded.model.config.get_text_config().vocab_size
    layout = shared_prefix.Packed(4, [2], loaded.device)
    remedy = "Choose a decoder-only chat model of the Llama, Mistral, Qwen, Gemma or Phi kind."
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = loaded.backbone(input_ids=ids[None], use_cache=False).last_hidden_state
            ours = shared_prefix.forward(
                loaded.backbone, loaded.embed(ids)[None], layout.position_ids, layout
            )
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{loaded.name} ({type(loaded.model).__name__}) does not take embeddings and an attention "
            f"layout: {str(error).splitlines()[0][:200]}",
            remedy,
        ) from error
    difference = ((plain - ours).float().norm() / plain.float().norm()).item()
    if not difference < (1e-3 if loaded.dtype == torch.float32 else 5e-2):
        raise ModelError(
            f"{loaded.name} ({type(loaded.model).__name__}) computes attention in a way that is not "
            f"supported (states differ by {difference:.1%}).",
            remedy,
        )
