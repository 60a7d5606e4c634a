"""The errors this library raises on purpose. Each message names the cause and the remedy."""

from __future__ import annotations

from dataclasses import dataclass


class DroError(Exception):
    """Something the user can mend; the message says what happened and what to do.

    The command line prints it without a traceback, the app shows it in the page.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = cause
        self.remedy = remedy
        super().__init__(f"{cause} {remedy}".strip())


class ModelError(DroError):
    """A model cannot be found, fetched, read or used."""


class DataError(DroError):
    """A query, a query file, a prompt file or a configuration cannot be used."""


class StoreError(DroError):
    """A file or folder of ours is missing, damaged, or does not fit the model at hand."""


@dataclass(frozen=True)
class Travelling:
    """An error of ours as a value, for where exceptions lose their words on the way to another process.

    kind: name of its class.
    """

    kind: str
    cause: str
    remedy: str

    @classmethod
    def of(cls, error: DroError) -> Travelling:
        """The value of an error."""
        return cls(type(error).__name__, error.cause, error.remedy)

    def error(self) -> DroError:
        """The error again; one of a class that is not known here is a DroError."""
        kind = globals().get(self.kind, DroError)
        known = isinstance(kind, type) and issubclass(kind, DroError)
        return (kind if known else DroError)(self.cause, self.remedy)
