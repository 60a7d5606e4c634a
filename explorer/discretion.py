"""What leaves the server in messages and its log: no secrets, no places of files, nothing that was typed."""

from __future__ import annotations

import logging
import os
import traceback

from dro.sources import cache_folder

_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DRO_AUTH")
"""Environment variables whose content never leaves the server."""
_SHORTEST = 4
"""Shorter ones would black out ordinary words."""


def discreet(told: str) -> str:
    """`told` without secrets of the environment, and without where the server keeps its files."""
    for name in _SECRETS:
        for secret in os.environ.get(name, "").replace(",", ":").split(":"):
            if len(secret) >= _SHORTEST:
                told = told.replace(secret, "…")
    return told.replace(str(cache_folder()), "the store")


def log_failure(what: str, error: BaseException) -> None:
    """Log where something unforeseen happened. What an error says of itself may hold what a visitor
    typed, so it is left out unless DRO_LOG_QUERIES is 1."""
    logger = logging.getLogger("explorer")
    if os.environ.get("DRO_LOG_QUERIES") == "1":
        logger.error("%s", what, exc_info=error)
        return
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s at\n%s", what, type(error).__name__, frames)
