"""Train small Keras models by the training steps, and tell what came out; runs in the tensorflow toolchain.

Arguments: the folders of our two packages, the digits, a folder for the files, and "model" or "cases". Written there
are the model and its data for a build; printed is, for each case, what the step said and what became of the weights,
or why it refused.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

# As `edgepack.training` has it, which here comes too late.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np
from keras import layers

sys.path[:0] = sys.argv[1:3]
from edgepack.errors import HostError  # noqa: E402
from edgepack.model import TrainRequest  # noqa: E402
from edgepack.training import cluster, distil, prune, quantize_aware  # noqa: E402

STEPS = {"cluster": cluster, "distil": distil, "prune": prune, "quantize_aware": quantize_aware}
FOLDER = Path(sys.argv[4]).resolve()


def digits():
    data = np.load(sys.argv[3])
    order = np.random.default_rng(0).permutation(len(data["x"]))
    return (data["x"][order, :, :, None] / 255).astype("float32"), data["y"][order].astype("int64")


def classifier():
    image = layers.Input((28, 28, 1), name="image")
    x = layers.Conv2D(12, 3, strides=2, use_bias=False, name="first")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(24, 3, strides=2, activation="relu", name="second")(x)
    x = layers.Dropout(0.1, seed=3)(layers.Flatten()(x))
    x = layers.Dense(32, activation="relu", name="third")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="scores")(x))


def student():
    image = layers.Input((28, 28, 1), name="image")
    x = layers.Dense(16, activation="relu", name="third")(layers.Flatten()(layers.AveragePooling2D(2)(image)))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="scores")(x))


def outcome(step, model, arrays, options, teacher=None):
    """Return what a step says of the file and the arrays: its notes and the weights, or its error."""
    arrays = dict(arrays)
    labels = arrays.pop("y", None)
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(
            source=FOLDER / model,
            options=json.dumps(options),
            feeds=arrays,
            labels=labels,
            scratch=Path(folder),
            teacher=None if teacher is None else FOLDER / teacher,
        )
        # As in the child process, the working folder is one of its own.
        os.chdir(tempfile.mkdtemp(dir=FOLDER))
        try:
            result = STEPS[step].run(request)
        except HostError as error:
            return {"error": f"{type(error).__name__}: {error.message}", "hint": error.hint or ""}
        digest = hashlib.sha256(result.model).hexdigest()
        told = {"notes": list(result.notes), "weights": weights(result.model), "digest": digest}
        if step == "quantize_aware":
            told["accuracy"] = [accuracy(path, options["weight_bits"]) for path in (model, "trained.keras")]
        return told if teacher is None else told | {"agreement": agreement(FOLDER / teacher)}


def weights(data):
    """Return what there is to know of each kernel: its share of zeros, of values, and its groups of four."""
    path = FOLDER / "trained.keras"
    path.write_bytes(data)
    model, found = keras.saving.load_model(path), {}
    for layer in model.layers:
        if not hasattr(layer, "kernel"):
            continue
        kernel = layer.kernel.numpy()
        four = kernel.reshape(-1, kernel.shape[-2], kernel.shape[-1])
        four = four[:, : four.shape[1] // 4 * 4].reshape(len(four), -1, 4, kernel.shape[-1])
        found[layer.name] = {
            "zero": float((kernel == 0).mean()),
            "values": len(np.unique(kernel)),
            "most_of_four": int((four != 0).sum(2).max(initial=0)),
            "size": int(kernel.size),
        }
    return found


def accuracy(file, bits):
    """Return the share of right answers when each channel of each kernel is rounded to so many bits."""
    model, most = keras.saving.load_model(FOLDER / file), 2 ** (bits - 1) - 1
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernel = layer.kernel.numpy()
            scale = np.abs(kernel).max(tuple(range(kernel.ndim - 1)), keepdims=True) / most
            layer.kernel.assign(np.round(kernel / scale) * scale)
    data = np.load(FOLDER / "evaluation.npz")
    return float((model.predict(data["image"], verbose=0).argmax(-1) == data["y"]).mean())


def agreement(teacher):
    """Return on how many of the evaluation samples the model that was trained last answers as the other does."""
    samples = np.load(FOLDER / "evaluation.npz")["image"]
    answers = [
        keras.saving.load_model(path).predict(samples, verbose=0) for path in (teacher, FOLDER / "trained.keras")
    ]
    return float((answers[0].argmax(-1) == answers[1].argmax(-1)).mean())


def main():
    keras.utils.set_random_seed(1)
    x, y = digits()
    np.savez(FOLDER / "calibration.npz", image=x[:100])
    np.savez(FOLDER / "evaluation.npz", image=x[100:1100], y=y[100:1100])
    np.savez(FOLDER / "training.npz", image=x[1100:], y=y[1100:])
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[1100:], y[1100:], epochs=3, verbose=0)
    model.save(FOLDER / "net.keras")
    student().save(FOLDER / "student.keras")
    image = layers.Input((28, 28, 1), name="image")
    keras.Model(image, student()(image)).save(FOLDER / "nested.keras")
    z = layers.BatchNormalization()(layers.SeparableConv2D(16, 3, padding="same", use_bias=False)(image))
    z = layers.MaxPooling2D(3, 2)(layers.SeparableConv2D(16, 3, activation="relu")(layers.ReLU()(z)))
    z = layers.Dense(10, activation="softmax")(layers.Flatten()(z))
    keras.Model(image, z).save(FOLDER / "separable.keras")
    if sys.argv[5] == "model":
        return
    two = keras.Model(model.inputs, [model.outputs[0], model.get_layer("third").output])
    two.save(FOLDER / "two.keras")
    some = {"image": x[1100:1500], "y": y[1100:1500]}
    unlabelled = {"image": some["image"]}
    quick = {"epochs": 2, "sparsity": 0.8}
    cases = {
        "clustered": ("cluster", "net.keras", some, {"epochs": 1, "clusters": 16}),
        "separable": ("cluster", "separable.keras", some, {"epochs": 3, "learning_rate": 0.01}),
        "separable, hardly changed": ("cluster", "separable.keras", some, {"epochs": 0, "clusters": 256}),
        "hardly changed": ("cluster", "net.keras", some, {"epochs": 0, "clusters": 256}),
        "unstructured": ("prune", "net.keras", some, quick),
        "again": ("prune", "net.keras", some, quick),
        "another seed": ("prune", "net.keras", some, quick | {"seed": 2, "epochs": 1}),
        "two of four": ("prune", "net.keras", some, {"epochs": 1, "pattern": "2:4"}),
        "without training": ("prune", "net.keras", some, {"epochs": 0, "sparsity": 0.5}),
        "one layer": ("prune", "net.keras", some, {"epochs": 1, "sparsity": 0.5, "layers": ["th*"]}),
        "like the source": ("prune", "two.keras", unlabelled, quick | {"loss": "source"}),
        "no labels": ("prune", "net.keras", unlabelled, quick),
        "two outputs": ("prune", "two.keras", some, quick),
        "wrong class": ("prune", "net.keras", some | {"y": some["y"] + 1}, quick),
        "wrong labels": ("prune", "net.keras", some | {"y": np.zeros((400, 3), "float32")}, quick),
        "wrong shape": ("prune", "net.keras", some | {"image": some["image"][:, :20]}, quick),
        "wrong dtype": ("prune", "net.keras", some | {"image": some["image"].astype("uint8")}, quick),
        "wrong name": ("prune", "net.keras", {"picture": some["image"], "y": some["y"]}, quick),
        "no such layer": ("prune", "net.keras", some, quick | {"layers": ["fourth"]}),
        "beyond numbers": ("prune", "two.keras", {"image": some["image"] * 3e38}, quick | {"loss": "source"}),
        "one sample": ("prune", "net.keras", {"image": x[:1], "y": y[:1]}, quick),
    }
    many = {"image": x[1100:2600], "y": y[1100:2600]}
    eager = {"epochs": 8, "learning_rate": 0.01}
    cases |= {
        "taught": ("distil", "student.keras", many, eager, "net.keras"),
        "taught without labels": (
            "distil",
            "student.keras",
            {"image": many["image"]},
            eager | {"alpha": 1.0},
            "net.keras",
        ),
        "taught by another": ("distil", "student.keras", some, {}, "two.keras"),
        "taught with labels that lack": ("distil", "student.keras", unlabelled, {}, "net.keras"),
        "rounded": ("quantize_aware", "net.keras", many, {"epochs": 3, "weight_bits": 2, "loss": "auto"}),
        "rounded, of others inside": ("quantize_aware", "nested.keras", some, {}),
        "without a teacher": ("distil", "student.keras", some, {}),
    }
    found = {name: outcome(*case) for name, case in cases.items()}
    # One step behind another, in both orders.
    outcome("prune", "net.keras", some, quick)
    (FOLDER / "trained.keras").rename(FOLDER / "sparse.keras")
    found["pruned, then clustered"] = outcome("cluster", "sparse.keras", some, {"epochs": 1, "clusters": 16})
    (FOLDER / "trained.keras").rename(FOLDER / "shared.keras")
    found["clustered, then pruned"] = outcome("prune", "shared.keras", some, quick)
    print("\n" + json.dumps(found))


main()
