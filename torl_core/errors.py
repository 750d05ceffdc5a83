"""One tree of errors, one class per boundary. An error says the value, the rule and the remedy."""

from __future__ import annotations


class TorlError(Exception):
    """Root of everything this project raises on purpose.

    what: what was found, with the offending value and where it stood; rule: what holds; remedy: what to do now.
    retryable: whether the same work can succeed when it is tried again with nothing changed; the class's own answer
    where it is left out.
    """

    exit_code = 1
    retryable = False

    def __init__(self, what: str, rule: str, remedy: str, *, retryable: bool | None = None) -> None:
        super().__init__(what, rule, remedy)
        self.what, self.rule, self.remedy = what, rule, remedy
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        rule, remedy = (f"{part[:1].upper()}{part[1:]}" for part in (self.rule, self.remedy))
        return f"{self.what}. {rule}. {remedy}."


class ConfigError(TorlError):
    """A configuration that cannot be run."""

    exit_code = 2


class DataError(TorlError):
    """Problem rows, a model folder or a stored dataset that cannot be used."""

    exit_code = 2


class StoreError(TorlError):
    """The store could not be read or written. Only where it did not answer can another try help."""


class ObjectError(StoreError):
    """One object of the store, named by its key, is not what it must be. The rest of the store may be whole."""

    def __init__(self, what: str, rule: str, remedy: str, key: str) -> None:
        super().__init__(what, rule, remedy)
        self.key = key

    def __reduce__(self) -> tuple[type[ObjectError], tuple[str, str, str, str]]:
        return type(self), (self.what, self.rule, self.remedy, self.key)


class DamagedError(ObjectError):
    """An object that a manifest names is missing, or is not what it was when it was stored."""


class UnreadableError(ObjectError):
    """A config, a manifest or a lease that is there and cannot be understood: torn, edited, or of a newer version."""


class EngineError(TorlError):
    """Generation failed, or an engine cannot be shown to hold the weights it was given. Another engine may succeed."""

    retryable = True


class SandboxUnavailable(TorlError):
    """The sandbox itself failed. Never shown to the model, never trained on; retry or stop."""

    retryable = True


class SandboxCannotIsolate(TorlError):
    """This machine cannot jail model-written code, so none will be run."""

    exit_code = 3


class GraderUnavailable(TorlError):
    """The grading workers could not be started or kept alive."""

    retryable = True


class LearnerError(TorlError):
    """The training process failed or died."""

    retryable = True
