"""Files of scikit-learn models: skops, which needs no trust, and pickles, which execute what is in them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack._sklearnfile import refuse_pickle
from edgepack.errors import ConversionError

__all__ = ["Loaded", "first_line", "load"]

_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The estimator, and what a reader of the bundle should know of the file it was in."""

    estimator: Any
    notes: tuple[str, ...]


def load(path: Path, *, trusted: bool, entry: str) -> Loaded:
    """Return the estimator in a file.

    Args:
        path: a skops, joblib or pickle file.
        trusted: whether code in the file may run.
        entry: the estimator's key, where the file holds a table; empty for the only one.

    Raises:
        ConversionError: it may not be loaded, cannot be, or holds no fitted estimator, or several.
    """
    with path.open("rb") as file:
        is_skops = file.read(2) == b"PK"
    if not trusted:
        refuse_pickle(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content, allowed = _from_skops(path, trusted=trusted) if is_skops else _from_pickle(path)
    notes = [first_line(w.message) for w in caught if type(w.message).__name__ == "InconsistentVersionWarning"]
    estimator, others = _chosen(content, entry)
    return Loaded(estimator=estimator, notes=(*allowed, *dict.fromkeys(notes), *others))


def first_line(error: object) -> str:
    """Return what an exception or a warning says, shortened."""
    return (str(error).splitlines() or [""])[0][:240]


def _from_pickle(path: Path) -> tuple[Any, tuple[str, ...]]:
    import joblib

    try:
        return joblib.load(path), ("--trust-source let this run: the file is a pickle (joblib)",)
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"the file needs the module {error.name!r}, which is not in the scikit-learn toolchain",
            hint="only models of scikit-learn's own classes are converted; save that part of the pipeline alone",
        ) from error
    except Exception as error:
        raise ConversionError(f"joblib cannot load the file: {type(error).__name__}: {first_line(error)}") from error


def _from_skops(path: Path, *, trusted: bool) -> tuple[Any, tuple[str, ...]]:
    import skops.io

    try:
        foreign = skops.io.get_untrusted_types(file=path)
        if foreign and not trusted:
            raise ConversionError(
                f"the skops file holds types it does not vouch for: {', '.join(sorted(foreign)[:8])}",
                hint="if you know where it comes from: --trust-source loads them too, in the child process",
            )
        allowed = (f"--trust-source let this load: {', '.join(sorted(foreign)[:8])}",) if foreign else ()
        return skops.io.load(path, trusted=foreign), allowed
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(f"skops cannot load the file: {type(error).__name__}: {first_line(error)}") from error


def _is_estimator(value: Any) -> bool:
    return hasattr(value, "fit") and (hasattr(value, "predict") or hasattr(value, "transform"))


def _chosen(content: Any, entry: str) -> tuple[Any, tuple[str, ...]]:
    """Return the estimator, and notes of what else the file holds."""
    if _is_estimator(content) and not entry:
        return content, ()
    if not isinstance(content, dict):
        raise ConversionError(
            f"the file holds {'an estimator' if _is_estimator(content) else type(content).__name__}, "
            + ("no table with an entry of that name" if entry else "no scikit-learn estimator")
        )
    known = {str(key): value for key, value in content.items()}
    estimators = [key for key, value in known.items() if _is_estimator(value)]
    if not entry and len(estimators) == 1:
        entry = estimators[0]
    if entry not in estimators:
        raise ConversionError(
            f"the file is a table of {', '.join(known) or 'nothing'}; "
            f"estimators in it: {', '.join(estimators) or 'none'}",
            hint="choose one with estimator = NAME in [converter] of edgepack.toml" if estimators else None,
        )
    rest = [f"{key} = {str(value)[:_SHOWN]}" for key, value in known.items() if key != entry]
    return known[entry], (f"of the file only {entry!r} is converted; beside it: {'; '.join(rest)}",) if rest else ()
