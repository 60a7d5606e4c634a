"""The errors this library raises on purpose. Each message names the cause and the remedy."""


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
