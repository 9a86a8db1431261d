"""The loop all training steps share: seeded, watched for NaN, and ended with the best epoch.

What an earlier step gained is held: weights that are zero stay so, weights that are one stay one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepack.errors import DatasetError, TrainingError
from edgepack.training._losses import Objective
from edgepack.training._maths import distinct, zeros
from edgepack.training._opened import Kernel, Opened
from edgepack.training._settings import Settings
from edgepack_runtime.tensors import Array

__all__ = ["Held", "Outcome", "Plan", "fit", "held_in", "split"]

# From so many zeros on, or so few values, it was no accident.
_SPARSE, _FEW, _MANY_TIMES = 0.2, 256, 8


@dataclass(slots=True, kw_only=True)
class Held:
    """What is held of one kernel while it learns: where it is kept, or which weights are one."""

    kernel: Kernel
    mask: Any = None
    index: Any = None
    count: int = 0

    @classmethod
    def masked(cls, kernel: Kernel, mask: Array) -> Held:
        """Hold everything outside the mask at zero."""
        import tensorflow as tf

        return cls(kernel=kernel, mask=tf.Variable(mask.astype(np.float32), trainable=False))

    @classmethod
    def clustered(cls, kernel: Kernel, index: Array, count: int, zero: int | None) -> Held:
        """Hold the weights of one index together, those of the index `zero` at zero."""
        import tensorflow as tf

        mask = None if zero is None else tf.Variable((index != zero).astype(np.float32), trainable=False)
        return cls(kernel=kernel, mask=mask, index=tf.constant(index.ravel()), count=count)

    def gradient(self, gradient: Any) -> Any:
        """Return the gradient of what is free to move: of clusters the sum, of what is masked nothing."""
        import tensorflow as tf

        if self.mask is not None:
            gradient = gradient * self.mask
        if self.index is None:
            return gradient
        sums = tf.math.unsorted_segment_sum(tf.reshape(gradient, [-1]), self.index, self.count)
        return tf.reshape(tf.gather(sums, self.index), tf.shape(gradient))

    def hold(self) -> None:
        """Bring the kernel back to what is held."""
        if self.mask is not None:
            self.kernel.value.assign(self.kernel.value * self.mask)


def held_in(kernels: Sequence[Kernel]) -> list[Held]:
    """Return what earlier steps gained in these kernels, to be held."""
    found = []
    for kernel in kernels:
        values = kernel.numpy()
        sparse = zeros(values) >= _SPARSE
        count = distinct(values)
        if count <= _FEW and count * _MANY_TIMES <= values.size:
            codes, index = np.unique(values, return_inverse=True)
            zero = int(np.searchsorted(codes, 0)) if sparse else None
            found.append(Held.clustered(kernel, index.reshape(values.shape).astype(np.int32), count, zero))
        elif sparse:
            found.append(Held.masked(kernel, values != 0))
    return found


@dataclass(slots=True, kw_only=True)
class Plan:
    """What one step does in the loop.

    `forward` takes a batch of each input and whether it trains. `variables` learn. `before` is called before every
    step with its number and theirs, `may_keep` tells from how many steps on a model may be the result.
    """

    opened: Opened
    feeds: list[Array]
    objective: Objective
    forward: Callable[[Sequence[Any], bool], list[Any]]
    variables: list[Any]
    held: list[Held] = field(default_factory=list)
    before: Callable[[int, int], None] | None = None
    keeps_from: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went: the loss on the held-back samples as the model came, and of the epoch that was kept.

    Epoch 0 is the model changed and not trained yet. `right` are shares of right decisions, where classes are
    decided; `samples` are those it learnt from and those held back.
    """

    start: float
    best: float
    epoch: int
    epochs: int
    right: tuple[float, float] | None
    samples: tuple[int, int]

    def text(self, objective: str) -> str:
        """Return it as a sentence."""
        told = f"learnt from {self.samples[0]} samples: {objective} {self.start:.4g} -> {self.best:.4g}"
        if self.right is not None:
            told += f", right {self.right[0]:.4f} -> {self.right[1]:.4f}"
        told += f" on {self.samples[1]} held back"
        if self.epoch == 0:
            return f"{told}; no epoch of {self.epochs} was better than none, which is kept"
        return f"{told}; epoch {self.epoch} of {self.epochs} is kept"


def split(count: int, settings: Settings) -> tuple[Array, Array]:
    """Return which samples train and which are held back.

    Raises:
        DatasetError: there are too few.
    """
    order = np.random.default_rng(settings.seed).permutation(count)
    back = max(1, round(count * settings.validation))
    if count - back < 1:
        raise DatasetError(f"training data: {count} samples are too few to train with some held back")
    return order[back:], np.sort(order[:back])


def fit(plan: Plan, settings: Settings) -> Outcome:
    """Train, and leave the model as it was after its best epoch.

    Raises:
        DatasetError: there are too few samples.
        TrainingError: the loss is no number, or the loss at the start is not.
    """
    train, back = split(len(plan.feeds[0]), settings)
    batch = min(settings.batch_size, len(train))
    per_epoch = len(train) // batch
    steps = settings.epochs * per_epoch
    learn = _step(plan, _optimizer(settings, max(1, steps), plan.variables))
    judge = _judge(plan, back, batch)
    origin = judge()
    if not np.isfinite(origin[0]):
        raise TrainingError(f"the {plan.objective.text} of the model as it came is {origin[0]} on the training data")
    if plan.before is not None:
        plan.before(0, steps)
    for held in plan.held:
        held.hold()
    best = judge() if plan.keeps_from == 0 else (float("inf"), 0.0)
    kept, epoch_kept, done = _snapshot(plan), 0, 0
    for epoch in range(1, settings.epochs + 1):
        order = np.random.default_rng([settings.seed, epoch]).permutation(train)
        for i in range(per_epoch):
            rows = np.sort(order[i * batch : (i + 1) * batch])
            done += 1
            if plan.before is not None:
                plan.before(done, steps)
            loss = float(learn(*_batch(plan, rows)))
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in step {i + 1} of epoch {epoch}",
                    hint=f"a smaller learning_rate than {settings.learning_rate:g}; look for odd labels and samples",
                )
        now = judge()
        if done >= plan.keeps_from and (now[0] < best[0] or not np.isfinite(best[0])):
            best, kept, epoch_kept = now, _snapshot(plan), epoch
    if not np.isfinite(best[0]):
        raise TrainingError(f"after training the loss is {best[0]}", hint="a smaller learning_rate")
    for variable, value in zip(plan.opened.model.variables, kept, strict=True):
        variable.assign(value)
    right = None if plan.objective.hits is None else (origin[1], best[1])
    return Outcome(
        start=origin[0],
        best=best[0],
        epoch=epoch_kept,
        epochs=settings.epochs,
        right=right,
        samples=(len(train), len(back)),
    )


def _snapshot(plan: Plan) -> list[Array]:
    return [np.array(variable.numpy()) for variable in plan.opened.model.variables]


def _optimizer(settings: Settings, steps: int, variables: Sequence[Any]) -> Any:
    import keras

    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    else:
        optimizer = keras.optimizers.Adam(rate)
    optimizer.build(list(variables))
    return optimizer


def _batch(plan: Plan, rows: Array) -> tuple[list[Any], list[Any]]:
    import tensorflow as tf

    return (
        [tf.constant(array[rows]) for array in plan.feeds],
        [tf.constant(array[rows]) for array in plan.objective.targets],
    )


def _step(plan: Plan, optimizer: Any) -> Callable[..., Any]:
    import tensorflow as tf

    by_variable = {id(held.kernel.value): held for held in plan.held}

    def learn(values: Sequence[Any], targets: Sequence[Any]) -> Any:
        with tf.GradientTape() as tape:
            outputs = plan.forward(values, True)
            loss = tf.reduce_mean(plan.objective.of(outputs, targets))
            total = tf.add_n([loss, *plan.opened.model.losses])
        gradients = tape.gradient(total, [variable.value for variable in plan.variables])
        pairs = []
        for variable, found in zip(plan.variables, gradients, strict=True):
            gradient = tf.zeros_like(variable.value) if found is None else found
            held = by_variable.get(id(variable))
            pairs.append((gradient if held is None else held.gradient(gradient), variable))
        optimizer.apply_gradients(pairs)
        for held in plan.held:
            held.hold()
        return loss

    return tf.function(learn, reduce_retracing=True)  # type: ignore[no-any-return]


def _judge(plan: Plan, rows: Array, batch: int) -> Callable[[], tuple[float, float]]:
    """Return what gives the loss on these samples, and the share of right decisions where there are any."""
    import tensorflow as tf

    run = tf.function(lambda values: plan.forward(values, False), reduce_retracing=True)

    def judge() -> tuple[float, float]:
        losses, hits = [], []
        for i in range(0, len(rows), batch):
            values, targets = _batch(plan, rows[i : i + batch])
            outputs = run(values)
            losses.append(plan.objective.of(outputs, targets).numpy())
            if plan.objective.hits is not None:
                hits.append(plan.objective.hits(outputs, targets).numpy())
        return float(np.concatenate(losses).mean()), float(np.concatenate(hits).mean()) if hits else 0.0

    return judge
