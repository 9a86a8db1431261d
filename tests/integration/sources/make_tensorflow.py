"""Write small Keras models and SavedModels, weights from a seed, into the folder given; runs in its toolchain."""

import sys
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

FOLDER = Path(sys.argv[1])
keras.utils.set_random_seed(1)

image = keras.Input((12, 12, 3), name="image")
x = layers.Conv2D(8, 3, padding="same")(image)
x = layers.BatchNormalization()(x)
x = layers.ReLU()(x)
x = layers.DepthwiseConv2D(3)(x)
x = layers.GlobalAveragePooling2D()(x)
network = keras.Model(image, layers.Dense(4, activation="softmax", name="probabilities")(x))
network.save(FOLDER / "network.keras")
network.save(FOLDER / "network.h5")
network.export(FOLDER / "network", verbose=False)

meta = keras.Input((5,), name="meta")
both = layers.Concatenate()([x, meta])
# Two outputs of one shape: only their values tell whether they were mixed up.
outputs = [layers.Dense(2, name="zebra")(both), layers.Dense(2, name="ant")(meta)]
keras.Model([meta, image], outputs).save(FOLDER / "two.keras")

sequence = keras.Sequential([keras.Input((6, 4), name="steps"), layers.LSTM(8), layers.Dense(3, name="tail")])
sequence.save(FOLDER / "sequence.keras")

audio = keras.Input((None, 2), name="audio")
keras.Model(audio, layers.GlobalMaxPooling1D(name="peak")(layers.Conv1D(4, 3)(audio))).save(FOLDER / "audio.keras")

trap = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda v: v * 2, name="trap"), layers.Dense(3)])
trap.save(FOLDER / "lambda.keras")
trap.save(FOLDER / "lambda.h5")


@keras.saving.register_keras_serializable("mine")
class Twice(layers.Layer):
    def call(self, value):
        return value * 2


keras.Sequential([keras.Input((4,)), Twice(name="twice"), layers.Dense(3)]).save(FOLDER / "custom.keras")


class Functions(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(tf.random.normal((4, 3), seed=1))
        self.count = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def plain(self, x):
        return {"y": x @ self.weights}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def counting(self, x):
        self.count.assign_add(1.0)
        return {"y": x @ self.weights + self.count}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def bessel(self, x):
        return {"y": tf.math.special.bessel_j0(x)}


functions = Functions()
tf.saved_model.save(functions, FOLDER / "predict", signatures={"predict": functions.plain})
tf.saved_model.save(functions, FOLDER / "counting", signatures={"serving_default": functions.counting})
tf.saved_model.save(functions, FOLDER / "bessel", signatures={"serving_default": functions.bessel})
