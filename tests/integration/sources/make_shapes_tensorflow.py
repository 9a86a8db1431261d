"""Write Keras models and SavedModels with unusual inputs and outputs into the folder given; runs in its toolchain."""

import sys
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

FOLDER = Path(sys.argv[1])
keras.utils.set_random_seed(1)

# Token ids beside a vector; scores beside a truth value for each.
ids = keras.Input((None,), dtype="int64", name="ids")
meta = keras.Input((3,), dtype="float32", name="meta")
words = layers.Embedding(20, 4)(ids)
both = layers.Concatenate()([layers.GlobalAveragePooling1D()(words), layers.Dense(4)(meta)])
score = layers.Dense(5, name="score")(both)
good = keras.ops.greater(score, 0.0)
keras.Model({"ids": ids, "meta": meta}, {"score": score, "good": good}).save(FOLDER / "mixed.keras")

double = keras.Input((4,), dtype="float64", name="x")
keras.Model(double, layers.Dense(3, dtype="float64", name="y")(double)).save(FOLDER / "double.keras")

steps = keras.Input((None, 4), name="steps")
keras.Model(steps, layers.GRU(6, return_sequences=True, name="states")(steps)).save(FOLDER / "time.keras")


class Functions(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(tf.random.normal((4, 3), seed=1))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 4), tf.uint8, "pixels"),
            tf.TensorSpec((None, 4), tf.bool, "mask"),
            tf.TensorSpec((), tf.float32, "gain"),
        ]
    )
    def gated(self, pixels, mask, gain):
        values = tf.where(mask, tf.cast(pixels, tf.float32), 0.0)
        scores = gain * (values @ self.weights)
        return {"y": scores, "best": tf.argmax(scores, axis=-1), "bright": tf.reduce_any(values > 200.0, axis=-1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def centred(self, x):
        return {"y": (x - tf.reduce_mean(x, axis=0)) @ self.weights}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def plain(self, x):
        return {"y": x @ self.weights}


functions = Functions()
tf.saved_model.save(
    functions,
    FOLDER / "functions",
    signatures={"gated": functions.gated, "centred": functions.centred, "plain": functions.plain},
)
