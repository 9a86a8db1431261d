"""tflite-runtime 2.14.0: the last of its line, and the only TFLite wheel for 32-bit ARM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack_runtime.engines._interpreter import import_interpreter, makes, open_model
from edgepack_runtime.errors import EngineError

if TYPE_CHECKING:
    from edgepack_runtime.engines import Engine

__all__ = ["load", "loads"]

_NAME = "tflite-runtime"
_HINT = "install it, with Python 3.9 to 3.11: python3 -m pip install 'tflite-runtime==2.14.0' 'numpy<2'"


def load(model_path: str, *, num_threads: int, delegates: tuple[str, ...] = ()) -> Engine:
    """Return the model at `model_path` in a tflite-runtime interpreter.

    Raises:
        EngineError: tflite-runtime is missing or broken, numpy is too new for it, it refuses the model, or a
            delegate is missing.
        FileError: `model_path` cannot be read.
    """
    version, interpreter = import_interpreter(_NAME, "tflite_runtime.interpreter", hint=_HINT, check=_check_numpy)
    return open_model(interpreter, model_path, num_threads=num_threads, delegates=delegates, engine=(_NAME, version))


def loads(model: bytes) -> bool:
    """Return whether tflite-runtime makes an interpreter of a TFLite file.

    Raises:
        EngineError: tflite-runtime is missing or broken, or numpy is too new for it.
    """
    _, interpreter = import_interpreter(_NAME, "tflite_runtime.interpreter", hint=_HINT, check=_check_numpy)
    return makes(interpreter, model)


def _check_numpy() -> None:
    # Its metadata allows numpy 2, the import then succeeds with a page of warnings, and the first interpreter
    # fails with a message about something else.
    if int(np.__version__.split(".", 1)[0]) >= 2:
        raise EngineError(
            f"tflite-runtime was built for numpy 1, and numpy {np.__version__} is installed",
            hint="install the last numpy 1: python3 -m pip install 'numpy<2'",
        )
