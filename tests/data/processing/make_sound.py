"""Make the log-mel features here: what TensorFlow and librosa make of half a second of a tone in noise.

Run it with ``tensorflow`` and with ``librosa``, in an environment that has it.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RATE, SAMPLES = 16000, 4000
# Frame, hop, length of the transform, bands, lowest and highest frequency, power.
SETTINGS = ((400, 640, 512, 20, 125.0, 7500.0, 1), (255, 500, 256, 12, 0.0, 8000.0, 2))


def wave():
    """Return a tone in noise."""
    noise = np.random.default_rng(0).standard_normal(SAMPLES) * 0.1
    return (noise + np.sin(np.arange(SAMPLES) * 0.2) * 0.3).astype(np.float32)


def tensorflow():
    import tensorflow as tf

    for i, (frame, hop, fft, bins, low, high, power) in enumerate(SETTINGS):
        lines = tf.abs(tf.signal.stft(wave(), frame, hop, fft)) ** power
        bands = tf.signal.linear_to_mel_weight_matrix(bins, fft // 2 + 1, RATE, low, high)
        yield f"tensorflow_{i}", tf.math.log(tf.matmul(lines, bands) + 0.001).numpy()


def librosa():
    import librosa

    for i, (frame, hop, fft, bins, low, high, power) in enumerate(SETTINGS):
        kinds = {
            "librosa": {"pad_mode": "constant"},
            "torchaudio": {"pad_mode": "reflect", "htk": True, "norm": None},
        }
        for name, kind in kinds.items():
            bands = librosa.feature.melspectrogram(
                y=wave(), sr=RATE, n_fft=fft, hop_length=hop, win_length=frame, n_mels=bins, fmin=low, fmax=high,
                power=power, **kind,
            )  # fmt: skip
            yield f"{name}_{i}", librosa.power_to_db(bands, top_db=None)


if __name__ == "__main__":
    which = sys.argv[1]
    np.savez_compressed(HERE / f"mel_{which}.npz", **dict({"librosa": librosa, "tensorflow": tensorflow}[which]()))
