"""Write Keras files and SavedModels that reach out of themselves into the folder given; runs in its toolchain.

Each would leave a file at the path that the second argument names, were its code executed.
"""

import json
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.core.protobuf import saved_model_pb2

FOLDER, MARKER = Path(sys.argv[1]), sys.argv[2]
keras.utils.set_random_seed(1)


def network():
    return keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="tail")])


# Keras: code in a Lambda, which runs when the model is loaded or called.


source = f"lambda v, marker={MARKER!r}: (__import__('pathlib').Path(marker).touch(), v * 2)[1]"
trap = keras.Sequential([keras.Input((4,), name="x"), layers.Lambda(eval(source), name="trap"), layers.Dense(3)])
trap.save(FOLDER / "lambda.keras")
trap.save(FOLDER / "lambda.h5")
Path(MARKER).unlink(missing_ok=True)
harmless = [keras.Input((4,), name="x"), layers.Lambda(lambda v: v * 2, name="twice"), layers.Dense(3)]
keras.Sequential(harmless).save(FOLDER / "harmless.keras")


def changed_config(name, change):
    """Save a network whose config.json was changed by hand."""
    network().save(FOLDER / "plain.keras")
    with zipfile.ZipFile(FOLDER / "plain.keras") as old, zipfile.ZipFile(FOLDER / name, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            new.writestr(info.filename, data)


def activation(module, name):
    def change(config):
        config["config"]["layers"][1]["config"]["activation"] = {
            "module": module,
            "class_name": "function",
            "config": name,
            "registered_name": "function",
        }

    return change


changed_config("system.keras", activation("os", "system"))
changed_config("fetch.keras", activation("keras.utils", "get_file"))
changed_config("unsafe.keras", activation("keras.config", "enable_unsafe_deserialization"))
changed_config("builtin.keras", activation("builtins", "exec"))
changed_config("write.keras", activation("tensorflow.io", "write_file"))

# Archives and HDF5 files that lead out of themselves.
with zipfile.ZipFile(FOLDER / "traversal.keras", "w") as archive:
    with zipfile.ZipFile(FOLDER / "plain.keras") as old:
        for info in old.infolist():
            archive.writestr(info.filename, old.read(info))
    archive.writestr(f"assets/../../../../../../../../{MARKER.lstrip('/')}", b"here")
with zipfile.ZipFile(FOLDER / "bomb.keras", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    with zipfile.ZipFile(FOLDER / "plain.keras") as old:
        archive.writestr("metadata.json", old.read("metadata.json"))
        archive.writestr("config.json", old.read("config.json"))
    with archive.open("model.weights.h5", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))


def with_weights(name, change):
    network().save(FOLDER / "plain.keras")
    weights = FOLDER / "weights.h5"
    with zipfile.ZipFile(FOLDER / "plain.keras") as old, zipfile.ZipFile(FOLDER / name, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "model.weights.h5":
                weights.write_bytes(data)
                with h5py.File(weights, "r+") as file:
                    change(file)
                data = weights.read_bytes()
            new.writestr(info.filename, data)


def kernel_of(file):
    found = []
    file.visititems(lambda name, item: found.append(name) if getattr(item, "shape", ()) == (4, 3) else None)
    return found[0]


def external_storage(file):
    name = kernel_of(file)
    del file[name]
    file.create_dataset(name, (4, 3), "float32", external=[("/etc/passwd", 0, 48)])


def external_link(file):
    name = kernel_of(file)
    del file[name]
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


with_weights("storage.keras", external_storage)
with_weights("link.keras", external_link)
network().save(FOLDER / "storage.h5")
with h5py.File(FOLDER / "storage.h5", "r+") as file:
    external_storage(file)

# SavedModels whose graph does something else than compute.


def saved(name, function):
    module = tf.Module()
    module.call = tf.function(function, input_signature=[tf.TensorSpec((None, 4), name="x")])
    tf.saved_model.save(module, str(FOLDER / name), signatures=module.call)


def writes(x):
    with tf.control_dependencies([tf.io.write_file(MARKER, "here")]):
        return {"y": x * 2.0}


def reads(x):
    return {"y": x * tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)}


def calls_python(x):
    return {"y": tf.ensure_shape(tf.numpy_function(lambda v: v * np.float32(2), [x], tf.float32), (None, 4))}


def prints(x):
    tf.print(x, output_stream=f"file://{MARKER}")
    return {"y": x * 2.0}


def remaps(x):
    remapping, _ = tf.raw_ops.GenerateVocabRemapping(
        new_vocab_file="/etc/passwd", old_vocab_file="/etc/passwd", new_vocab_offset=0, num_new_vocab=2
    )
    return {"y": x * tf.cast(remapping[0], tf.float32)}


def samples(x):
    drawn, _, _ = tf.raw_ops.FixedUnigramCandidateSampler(
        true_classes=tf.zeros((1, 1), tf.int64),
        num_true=1,
        num_sampled=1,
        unique=True,
        range_max=1,
        vocab_file="/etc/passwd",
    )
    return {"y": x * tf.cast(drawn[0], tf.float32)}


def renamed(name, old, new):
    """Give an operator of a SavedModel a name that TensorFlow does not know."""
    path = FOLDER / name / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            node.op = new if node.op == old else node.op
    path.write_bytes(model.SerializeToString())


saved("custom", lambda x: {"y": tf.math.bessel_i0e(x, name="turn")})
renamed("custom", "BesselI0e", "Swirl")
saved("remaps", remaps)
saved("samples", samples)
saved("writes", writes)
saved("reads", reads)
saved("calls_python", calls_python)
saved("prints", prints)
Path(MARKER).unlink(missing_ok=True)
