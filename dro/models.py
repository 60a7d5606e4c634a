"""Chat models by name: find, fetch, load.

`load` takes a registry name, a hub id, a local folder or a .gguf file, and gives a frozen `ChatModel`.
Code that comes with a model is never run (trust_remote_code stays off).
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dro import pretrained
from dro.errors import DataError, ModelError
from dro.registry import DEFAULT, REGISTRY
from dro.rendering import Rendering, from_chat_template
from dro.sources import DEFAULT_GGUF, Progress, cache_folder, fetch, sha256_of, silent

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp32", "4bit"]
Device = Literal["auto", "cpu", "cuda"]
_CPUINFO = Path("/proc/cpuinfo")
_GPU_NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What the drivers of NVIDIA, AMD and of Linux within Windows put there."""
PRECISIONS: tuple[Precision, ...] = ("auto", "bf16", "fp32", "4bit")


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
        return key_of(self.name, self.revision, self.precision)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: end (or start) of text, padding, and the template's end of a turn."""
        config = getattr(self.model, "generation_config", None)
        ends = getattr(config, "eos_token_id", None)
        flat: set[Any] = {*ends} if isinstance(ends, list) else {ends}
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


def key_of(name: str, revision: str, precision: str) -> str:
    """Name, revision and precision as one word, fit for a file name."""
    return f"{slug(name)}-{revision[:8]}-{precision}"


def default_key(precision: Precision) -> str:
    """The key the default model will have once loaded: its revision is known beforehand."""
    return key_of(DEFAULT, DEFAULT_GGUF.sha256, auto_precision() if precision == "auto" else precision)


def slug(name: str) -> str:
    """A name reduced to what is safe in a file name."""
    return re.sub(r"[^a-z0-9.]+", "-", Path(name).name.lower()).strip("-.") or "model"


def auto_precision(device: str = "auto") -> Literal["bf16", "fp32"]:
    """bf16 where the hardware multiplies it faster than fp32, else fp32."""
    told = _told_by_linux(device)
    if told is not None:
        return "bf16" if told else "fp32"
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, lambda: False)() for name in supported)
    return "bf16" if fast else "fp32"


def _told_by_linux(device: str) -> bool | None:
    """Whether this processor multiplies bf16 fast; None where only torch knows: it takes seconds to come."""
    # On a ZeroGPU Space the GPU is not there until it is lent; torch knows what it will be.
    lent = "SPACES_ZERO_GPU" in os.environ
    if device != "cpu" and (lent or any(Path(node).exists() for node in _GPU_NODES)):
        return None
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return None
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), None)
    return None if flags is None else bool(flags & {"avx512_bf16", "amx_tile"})


def load(
    name: str = DEFAULT,
    precision: Precision = "auto",
    rendering: Rendering | None = None,
    progress: Progress = silent,
    device: Device = "auto",
) -> ChatModel:
    """Load a chat model.

    Parameters
    ----------
    name: a name of `REGISTRY`, a hub id "org/name", a local folder, or a .gguf file.
    precision: "auto" is bf16 where the hardware has it, else fp32; "4bit" is NF4 by bitsandbytes.
    rendering: how a turn is written; overrides the registry and the chat template.
    device: "auto" takes all GPUs there are, else the CPU; or "cpu", "cuda".

    Raises
    ------
    ModelError: unknown name, no network, no chat template, unsupported architecture, wrong hash, full
        disk, more memory needed than is free, no such device; the message says what to do.
    """
    if precision not in PRECISIONS:
        raise DataError(f"There is no precision {precision!r}.", f"Use one of {', '.join(PRECISIONS)}.")
    pretrained.check_device(device)
    found = find(name, progress)
    progress(f"Loading {found.name}", 0.0)
    chosen = auto_precision(device) if precision == "auto" else precision
    model, tokenizer = pretrained.read(found.source, chosen, found.name, device)
    revision = found.revision or str(getattr(model.config, "_commit_hash", None) or "unknown")
    stated = rendering or found.rendering or from_chat_template(tokenizer, found.name)
    loaded = ChatModel(found.name, revision, chosen, model, tokenizer, stated)
    if found.name not in REGISTRY:
        _check_supported(loaded)
    progress(f"Loading {found.name}", 1.0)
    return loaded


def fetch_files(name: str, progress: Progress = silent) -> Path:
    """Bring a model's files to this machine, verified and converted, without loading it."""
    found = find(name, progress)
    return Path(pretrained.download(str(found.source))) if found.on_hub else Path(found.source)


@dataclass(frozen=True)
class Found:
    """Where a model is. revision is "" where only loading tells."""

    name: str
    source: str | Path
    revision: str = ""
    rendering: Rendering | None = None

    @property
    def on_hub(self) -> bool:
        return isinstance(self.source, str)


def find(name: str, progress: Progress = silent) -> Found:
    """Where a model is; the default one and a .gguf file are fetched and converted for it."""
    spec = REGISTRY.get(name) or next((s for s in REGISTRY.values() if s.hub_id == name), None)
    if spec is not None and spec.name == DEFAULT:
        return Found(DEFAULT, _default_folder(progress), DEFAULT_GGUF.sha256)
    if spec is not None:
        return Found(spec.name, spec.hub_id, "", spec.rendering)
    path = Path(name or "?").expanduser()
    if path.suffix == ".gguf" and path.is_file():
        folder, revision = _converted(path, progress)
        return Found(path.stem, folder, revision)
    if path.is_dir():
        return Found(path.resolve().name, path, _folder_revision(path))
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return Found(name, name)
    raise ModelError(
        f"There is no model {name!r}.",
        f"Use one of {', '.join(REGISTRY)}, a hub id (org/name), a local folder or a .gguf file.",
    )


def _default_folder(progress: Progress) -> Path:
    """The default model as a folder of safetensors; fetched and converted at the first call."""
    models = cache_folder() / "models"
    folder = models / f"{DEFAULT}-{DEFAULT_GGUF.sha256[:12]}"
    if not (folder / "config.json").exists():
        gguf = fetch(DEFAULT_GGUF, models, progress)
        pretrained.convert(gguf, folder, progress)
        gguf.unlink(missing_ok=True)  # one copy is enough; the hash of its source names the folder
    return folder


def _converted(gguf: Path, progress: Progress) -> tuple[Path, str]:
    progress(f"Reading {gguf.name}", 0.0)
    revision = sha256_of(gguf)
    folder = cache_folder() / "models" / f"{slug(gguf.stem)}-{revision[:12]}"
    if not (folder / "config.json").exists():
        pretrained.convert(gguf, folder, progress)
    return folder, revision


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

    # Real words: odd ids excite a few dimensions so much that rounding drowns the comparison.
    spelled = loaded.tokenizer("Hello, how are you today?", add_special_tokens=False)["input_ids"]
    ids = torch.tensor(spelled, device=loaded.device)
    layout = shared_prefix.Packed(len(ids) - 2, [2], loaded.device)
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
