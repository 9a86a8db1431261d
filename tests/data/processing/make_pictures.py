"""Make the files here: pictures of noise and patterns, and what Pillow and TensorFlow make of them.

Run it with ``pillow`` and with ``tensorflow``, in an environment that has it.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
# Height and width given, height and width wanted: smaller, larger, one of each, and far smaller.
SIZES = ((20, 30, 7, 11), (9, 6, 16, 17), (12, 31, 25, 8), (64, 48, 5, 5))


def picture(height, width):
    """Return noise over a slope, so that every value has its own neighbours."""
    noise = np.random.default_rng(height).integers(0, 128, (height, width, 3))
    return (noise + np.linspace(0, 127, width)[None, :, None]).astype(np.uint8)


def pillow():
    from PIL import Image

    for given in SIZES:
        height, width, *wanted = given
        image = Image.fromarray(picture(height, width))
        size = (wanted[1], wanted[0])
        name = "x".join(map(str, given))
        yield f"pillow_{name}", np.asarray(image.resize(size, Image.BILINEAR))
        yield f"gray_{name}", np.asarray(image.convert("L").resize(size, Image.BILINEAR))


def tensorflow():
    import tensorflow as tf

    for given in SIZES:
        height, width, *wanted = given
        pixels = picture(height, width)
        name = "x".join(map(str, given))
        yield f"bilinear_{name}", tf.image.resize(pixels, wanted).numpy()
        yield f"antialias_{name}", tf.image.resize(pixels, wanted, antialias=True).numpy()
        yield f"nearest_{name}", tf.image.resize(pixels, wanted, method="nearest").numpy()
        cut = tf.keras.preprocessing.image.smart_resize(pixels.astype(np.float32), wanted)
        yield f"crop_{name}", np.asarray(cut)


if __name__ == "__main__":
    which = sys.argv[1]
    np.savez_compressed(HERE / f"{which}.npz", **dict({"pillow": pillow, "tensorflow": tensorflow}[which]()))
