"""Write a Keras 2 model with a layer that Keras 3 lacks into the folder given; runs in the tensorflow toolchain."""

import sys
from pathlib import Path

import tf_keras
from tf_keras import layers

FOLDER = Path(sys.argv[1])
tf_keras.utils.set_random_seed(1)
image = layers.Input((12, 12, 3), name="image")
x = layers.ThresholdedReLU(0.1, name="threshold")(layers.Conv2D(6, 3)(image))
x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(x))
tf_keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x)).save(FOLDER / "legacy.h5")
