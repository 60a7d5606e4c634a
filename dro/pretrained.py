"""The only place that calls from_pretrained: read weights, convert GGUF, say why it failed.

Code that comes with a model is never run (trust_remote_code stays off).
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from dro import footprint, store
from dro.errors import DataError, ModelError
from dro.sources import Progress, locked, need_space

DEVICES = ("auto", "cpu", "cuda")


def check_device(device: str) -> None:
    """Raise unless `device` is a name we know and, for cuda, there is one."""
    if device not in DEVICES:
        raise DataError(f"There is no device {device!r}.", f"Use one of {', '.join(DEVICES)}.")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ModelError("torch finds no CUDA device.", "Use --device cpu, or install torch for CUDA.")


def read(source: str | Path, precision: str, shown: str, device: str = "auto") -> tuple[Any, Any]:
    """(model, tokenizer) from a hub id or a folder; weights frozen. precision: bf16, fp32 or 4bit.

    Several GPUs share the layers; with none, or on device "cpu", all is on the CPU. What does not fit
    is refused before anything is read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from dro import shared_prefix

    logging.disable_progress_bar()
    options: dict[str, Any] = {"trust_remote_code": False}
    cuda = device != "cpu" and torch.cuda.is_available()
    footprint.check(footprint.of_source(source, precision), precision, cuda, shown)
    if precision == "4bit":
        options |= {"quantization_config": nf4(), "dtype": torch.bfloat16}
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
    if not tokenizer("Hello")["input_ids"]:
        # transformers makes an empty tokenizer where a folder holds none.
        raise ModelError(f"{shown} comes without a tokenizer.", "Add its tokenizer.json to the folder.")
    model.eval().requires_grad_(False)
    if precision == "4bit":
        keep_gradients(model)
    return model, tokenizer


def read_config(source: str | Path, shown: str) -> Any:
    """A model's configuration, from a hub id or a folder."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise _explain(error, source, shown) from error


def read_tokenizer(source: str | Path, shown: str) -> Any:
    """A tokenizer, from a hub id or a folder, which need hold nothing else."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise _explain(error, source, shown) from error


def nf4() -> Any:
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


def keep_gradients(model: Any) -> None:
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
    status = getattr(getattr(error, "response", None), "status_code", None)
    if not isinstance(source, Path) and ("gated repo" in lowered or status in (401, 403)):
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


def download(hub_id: str) -> str:
    """Fetch all files of a hub model that loading needs; returns their folder."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"])
    except Exception as error:
        raise _explain(error, hub_id, hub_id) from error


def convert(gguf: Path, folder: Path, progress: Progress) -> None:
    """Write a .gguf file as a folder of bf16 safetensors and a tokenizer.json, atomically.

    Reading GGUF takes transformers ten times as long; 4-bit weights lose nothing measurable in bf16.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    with locked(folder.parent):
        if (folder / "config.json").exists():
            return
        for left in store.leftovers(folder.parent):  # of a conversion that was killed: gigabytes
            shutil.rmtree(left, ignore_errors=True)
        need_space(folder.parent, 4 * gguf.stat().st_size)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            progress(f"Converting {gguf.name} (once, about a minute)", 0.1)
            place: Any = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
            with contextlib.redirect_stderr(io.StringIO()):  # its own bar would break ours
                model: Any = AutoModelForCausalLM.from_pretrained(
                    **place, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
                )
                model = model.to(torch.bfloat16)
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
