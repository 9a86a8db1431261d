"""The host's errors; all hang on the runtime's one root, `EdgepackError`.

::

    EdgepackError (edgepack_runtime.errors)
    └── HostError
        ├── SourceModelError            a model file is missing, truncated, no model, or unsafe
        ├── ConversionError             a source model cannot be converted, and why
        │   └── ParityError             what came out of a conversion computes something else
        ├── PassError                   a quantization step cannot be applied, and why
        ├── TrainingError               a model cannot be retrained, or training it went wrong
        ├── DatasetError                calibration or evaluation data does not fit the model
        ├── RecipeError                 edgepack.toml or the command line is wrong
        ├── ProfileError                unknown or unreadable device profile
        ├── ToolchainError              an environment cannot be made, or is missing with --offline
        ├── WorkerError                 a child process crashed, hung or hit a limit
        └── GateError                   the result is not good enough to ship; carries the table that says why
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack_runtime.errors import EdgepackError

if TYPE_CHECKING:
    from edgepack.model import Refusal

__all__ = [
    "ConversionError",
    "DatasetError",
    "GateError",
    "HostError",
    "ParityError",
    "PassError",
    "ProfileError",
    "RecipeError",
    "SourceModelError",
    "ToolchainError",
    "TrainingError",
    "WorkerError",
]


class HostError(EdgepackError):
    """Root of the errors that only the host raises."""


class SourceModelError(HostError):
    """A source model is missing, truncated, of no known format, or would execute code."""


class ConversionError(HostError):
    """A source model cannot be converted; the message names the operator or the tool."""


class ParityError(ConversionError):
    """A conversion gave a model that does not compute what its source does."""


class PassError(HostError):
    """A pass over a TFLite model cannot be applied."""


class TrainingError(HostError):
    """A model cannot be retrained, or the training went wrong."""


class DatasetError(HostError):
    """Calibration or evaluation data does not fit the model, or the labels do not fit the data."""


class RecipeError(HostError):
    """A recipe or an option is wrong."""


class ProfileError(HostError):
    """A device profile is unknown or cannot be read."""


class ToolchainError(HostError):
    """A pinned environment cannot be made, or is missing while offline."""


class WorkerError(HostError):
    """A child process crashed, hung or ran into a limit."""


class GateError(HostError):
    """No candidate may be shipped; `refusals` is the table that says why, one row a finding."""

    def __init__(self, message: str, *, refusals: tuple[Refusal, ...], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.refusals = refusals
