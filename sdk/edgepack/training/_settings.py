"""What every training step can be told: how long, how fast, with which loss."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.errors import RecipeError

__all__ = ["AUTO", "LOSSES", "SOURCE", "Settings", "check_choice", "check_range"]

AUTO, SOURCE = "auto", "source"
LOSSES = (AUTO, SOURCE, "sparse_crossentropy", "crossentropy", "binary_crossentropy", "mse")
_OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a step trains.

    `loss` is ``auto`` (from the labels), ``source`` (be like the model as it came, without labels) or a loss by name.
    The share `validation` of the samples is held back: by it the best epoch is told, the beginning among them. The
    learning rate falls to nothing along a cosine. `layers` are the patterns of the layers that are changed, all where
    there is none, and `skip` of those that are not.

    Raises:
        RecipeError: a value is out of its range, or no choice there is.
    """

    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    loss: str = AUTO
    validation: float = 0.1
    seed: int = 1
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 0, 10_000)
        check_range("batch_size", self.batch_size, 1, 1 << 20)
        check_range("learning_rate", self.learning_rate, 1e-9, 10.0)
        check_range("validation", self.validation, 0.01, 0.5)
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_choice("optimizer", self.optimizer, _OPTIMIZERS)
        check_choice("loss", self.loss, LOSSES)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a figure outside its range.

    Raises:
        RecipeError: it is.
    """
    if not low <= value <= high:
        raise RecipeError(f"{name} is {value:g}, possible is {low:g} to {high:g}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is no choice.

    Raises:
        RecipeError: it is none.
    """
    if value not in known:
        raise RecipeError(f"{name} is {value!r}, known are {', '.join(known)}")
