"""What can go wrong in an engine. Apart from the protocol, so that what reads adapters need not import it."""

from __future__ import annotations


class EngineError(Exception):
    """The engine failed at a request, or died; the message is fit for a log, not for a caller."""


class UnsupportedSchemaError(Exception):
    """The engine cannot hold an answer to this schema; the message is fit for the caller."""


class IncompatibleAdapterError(Exception):
    """An adapter that this model cannot take; the message says what is wrong and fits a caller."""


class OutOfMemoryError(EngineError):
    """There was no memory left for a request; others may go on."""
