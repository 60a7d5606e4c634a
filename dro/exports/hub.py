"""To and from the Hugging Face Hub, by its own client. The token comes from the environment alone: HF_TOKEN.

Repositories are made private; their owner opens them. Only an export's own files are fetched.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

from dro import prompts
from dro.errors import DataError, StoreError
from dro.exports import INNER
from dro.held_out import FILE as HELD_OUT_FILE

PREFIX = "hub:"
_WANTED = (prompts.SOFT_PROMPT_FILE, prompts.CARD_FILE, HELD_OUT_FILE)
_MOST_BYTES = 256 << 20
"""Of one file that is fetched: far more than any prompt has."""


def check_name(repository: str) -> str:
    """Return ORG/NAME if it can be a repository; DataError otherwise."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        repository = ""
    if repository.count("/") != 1:
        raise DataError(f"{repository!r} is no repository.", "Write ORG/NAME.")
    return repository


def push(folder: Path, repository: str) -> str:
    """Upload a folder as a model repository, made private where it is new; returns its address."""
    from huggingface_hub import HfApi

    check_name(repository)
    with _explained(repository):
        api = HfApi(token=_token())
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Safety prompt")
        return f"{api.endpoint}/{repository}"


def pull(source: str, folder: Path) -> Path:
    """Fetch the prompt of `hub:ORG/NAME` or `hub:ORG/NAME@REVISION` into `folder`; returns it.

    Raises
    ------
    StoreError: no such repository, no access, no prompt in it, or one too large to be a prompt.
    """
    from huggingface_hub import HfApi, hf_hub_download

    repository, _, revision = source.removeprefix(PREFIX).partition("@")
    check_name(repository)
    with _explained(repository):
        told = HfApi(token=_token()).model_info(repository, revision=revision or None, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in told.siblings or []}
        inner = f"{INNER}/" if f"{INNER}/{prompts.SOFT_PROMPT_FILE}" in sizes else ""
        wanted = [inner + name for name in _WANTED if inner + name in sizes]
        if inner + prompts.SOFT_PROMPT_FILE not in wanted:
            raise StoreError(f"{repository} holds no {prompts.SOFT_PROMPT_FILE}.", "Name an exported prompt.")
        for name in wanted:
            if sizes[name] > _MOST_BYTES:
                raise StoreError(f"{name} in {repository} has {sizes[name]:,} bytes.", "That is no prompt.")
            # By the commit that was looked at: another may come meanwhile.
            hf_hub_download(repository, name, revision=told.sha, local_dir=folder, token=_token())
    return folder


def _token() -> str | bool:
    """HF_TOKEN; without it none, not even one that a login left on this machine."""
    return os.environ.get("HF_TOKEN") or False


@contextmanager
def _explained(repository: str):
    """The Hub's errors as ours, with what to do."""
    from httpx import HTTPError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (HfHubHTTPError, GatedRepoError) as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            told, remedy = "the Hub refuses access", "Set HF_TOKEN to a token that may read or write it."
        elif status == 404:
            told, remedy = (
                "the Hub has no such repository",
                "Check the spelling; for a private one set HF_TOKEN.",
            )
        else:
            told, remedy = f"the Hub answered {status}", "Try again later."
        raise StoreError(f"{repository}: {told}.", remedy) from None
    except OfflineModeIsEnabled:
        raise StoreError("HF_HUB_OFFLINE is set.", "Unset it to reach the Hub.") from None
    except (HTTPError, OSError) as error:
        raise StoreError(
            f"The Hub could not be reached ({type(error).__name__}).", "Check the network."
        ) from None
