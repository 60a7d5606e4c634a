"""Starting quickly: heavy packages come when they are needed, not when something is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dro import models

HEAVY = ("torch", "transformers", "sklearn", "scipy", "bitsandbytes", "accelerate")
ROOT = Path(__file__).parent.parent


def imported(code):
    """Which heavy packages a fresh Python has imported after `code`."""
    ask = f"import sys; {code}; print(*[n for n in {HEAVY} if n in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()[-1]


def test_the_command_line_knows_its_commands_without_heavy_packages():
    assert imported("import dro.cli") == ""


def test_the_page_is_built_without_heavy_packages():
    code = (
        "from explorer.interface import build; from explorer.service import Service; "
        "from dro.registry import DEFAULT; build(Service(DEFAULT, 'auto'), DEFAULT, 'auto')"
    )
    found = imported(code)
    if models._told_by_linux("auto") is None:
        pytest.skip("only torch knows this processor")
    assert found == ""


@pytest.mark.parametrize(
    ("flags", "fast"), [("sse avx512f avx512_bf16", True), ("amx_tile", True), ("sse", False)]
)
def test_the_processor_tells_whether_bf16_is_fast(tmp_path, monkeypatch, flags, fast):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor : 0\nflags : fpu {flags}\n")
    monkeypatch.setattr(models, "_CPUINFO", file)
    monkeypatch.setattr(models, "_GPU_NODES", ())
    assert models.auto_precision() == ("bf16" if fast else "fp32")


def test_where_there_is_a_gpu_torch_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_GPU_NODES", (str(tmp_path),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert models.auto_precision() == "bf16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert models.auto_precision() == "fp32"


def test_what_linux_tells_is_what_torch_finds():
    if models._told_by_linux("cpu") is None:
        pytest.skip("no /proc/cpuinfo with flags")
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert models._told_by_linux("cpu") == fast
