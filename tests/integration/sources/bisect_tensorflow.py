"""Say which layer of a Keras model a spoiled converter gets wrong; runs in its toolchain, our packages at hand."""

import flatbuffers
import keras
import numpy as np
from keras import layers
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.converters._tensorflow import Function, plain_tflite
from edgepack.converters._tf_bisect import first_wrong_operation
from edgepack_runtime.tensors import TensorSpec

keras.utils.set_random_seed(1)
image = keras.Input((12, 12, 3), name="image")
x = layers.Conv2D(8, 3, activation="relu", name="first")(image)
# Only here do values pass 6.
x = layers.Conv2D(8, 3, activation="relu", name="second")(x * 9)
x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="third")(x))
network = keras.Model(image, layers.Dense(3, activation="softmax")(x))


def spoiled(frozen):
    """Return the function as TFLite in which every fused RELU has become a RELU6."""
    data = plain_tflite(frozen)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for operator in model.subgraphs[0].operators:
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0) == schema.ActivationFunctionType.RELU:
            operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


function = Function(
    call=lambda value: [network(value, training=False)],
    inputs=(TensorSpec(name="image", dtype="float32", shape=(1, 12, 12, 3)),),
    output_names=("y",),
    keep=network,
)
feeds = {"image": np.random.default_rng(1).normal(size=(9, 1, 12, 12, 3)).astype(np.float32)}
print(first_wrong_operation(function, feeds, 1e-4).text)
print(first_wrong_operation(function, feeds, 1e-4, convert=spoiled).text)
