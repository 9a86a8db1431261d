"""A function in a Python file of the user's own, loaded where it may run: in a child process."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepack.errors import RecipeError

__all__ = ["load_function", "reason"]

_OWN_MODULE = "edgepack_user_code"


def load_function(path: Path, entry: str, name: str) -> Callable[..., Any]:
    """Return the function `entry` of the file, which is run for it.

    Args:
        path: the file.
        entry: what the function is called.
        name: of both, for messages.

    Raises:
        RecipeError: the file cannot be imported, or has no such function.
    """
    spec = importlib.util.spec_from_file_location(_OWN_MODULE, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{name}: {path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_OWN_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"{name}: it imports {error.name!r}, which is not there when it runs",
            hint="one file that imports numpy, the standard library and what is installed beside edgepack",
        ) from error
    except (Exception, SystemExit) as error:
        raise RecipeError(f"{name} fails when it is imported: {reason(error, path)}") from error
    function = getattr(module, entry, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == _OWN_MODULE]
        raise RecipeError(
            f"{name}: there is no function {entry!r}; {path.name} defines {', '.join(own) or 'nothing'}"
        )
    return function  # type: ignore[no-any-return]


def reason(error: BaseException, path: Path) -> str:
    """Return the error in one line, with the last line of the user's file that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    text = str(error).strip().split("\n")[0]
    where = f" ({path.name}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"
