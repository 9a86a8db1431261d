"""Which values the options of passes may have; asked when the options are read, long before a pass runs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from edgepack.errors import PassError
from edgepack.flatbuffer import operator_names
from edgepack.passes._forms import ALGORITHMS, BLOCKS, WEIGHT_BITS

__all__ = [
    "INTERFACE",
    "check_block",
    "check_choice",
    "check_layers",
    "check_least",
    "check_operators",
    "check_precision",
    "check_weights",
]

# Named in place of an operator, these are the model's inputs and outputs.
INTERFACE = ("INPUT", "OUTPUT")


def check_choice(name: str, value: str, known: Collection[str]) -> None:
    """Refuse a word that is no choice.

    Raises:
        PassError: it is none.
    """
    if value not in known:
        raise PassError(f"options: {name} {value!r} is not known{_near(value, known)}", hint=_known(known))


def check_least(name: str, value: int, least: int = 0) -> None:
    """Refuse a number that is too small.

    Raises:
        PassError: it is.
    """
    if value < least:
        raise PassError(f"options: {name} {value}; wanted is at least {least}")


def check_block(value: int) -> None:
    """Refuse a size of blocks for which there is no kernel.

    Raises:
        PassError: there is none.
    """
    if value not in (0, *BLOCKS):
        raise PassError(
            f"options: block {value} is not known", hint=f"known are {', '.join(map(str, BLOCKS))}, and 0 for none"
        )


def check_weights(min_elements: int, keep_float: Sequence[str], algorithm: str) -> None:
    """Refuse values of what all passes that store weights smaller can be told.

    Raises:
        PassError: one is not allowed.
    """
    check_least("min_elements", min_elements)
    check_operators("keep_float", keep_float)
    check_choice("algorithm", algorithm, ALGORITHMS)


def check_operators(name: str, operators: Sequence[str]) -> None:
    """Refuse the name of an operator that TFLite does not have.

    Raises:
        PassError: one is none.
    """
    known = {*operator_names(), *INTERFACE}
    for operator in operators:
        if operator not in known:
            raise PassError(
                f"options: {name}: TFLite has no operator {operator!r}{_near(operator.upper(), known)}",
                hint="operators are named as in TFLite, such as CONV_2D or FULLY_CONNECTED",
            )


def check_precision(value: str) -> None:
    """Refuse what is no precision of a layer.

    Raises:
        PassError: it is none.
    """
    if value not in WEIGHT_BITS:
        raise PassError(
            f"precision {value!r} is none a layer can have{_near(value, WEIGHT_BITS)}", hint=_known(WEIGHT_BITS)
        )


def check_layers(layers: Sequence[str]) -> None:
    """Refuse names that no layer of any model has; as for `edgepack.passes._choose.LayerRule`.

    Raises:
        PassError: there is none at all, or one is written in another way.
    """
    if not layers:
        raise PassError("options: a rule names no layers", hint='layers = ["op:CONV_2D"], for example')
    for text in layers:
        if text.startswith("op:"):
            check_operators("rules", [text[3:]])
        elif text.startswith("#") and not re.fullmatch(r"#(0|[1-9][0-9]{0,8})", text):
            raise PassError(f"options: rules: {text!r}: expected # and the operator's place in the file, such as #12")
        elif text.startswith("re:"):
            try:
                re.compile(text[3:])
            except (re.error, OverflowError, RecursionError) as error:
                raise PassError(f"options: rules: {text!r} is no regular expression: {error}") from None


def _near(value: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(value, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _known(known: Collection[str]) -> str:
    return f"known are {', '.join(known)}"
