"""Write scikit-learn files into the folder given, one of which leaves a file at the second argument when loaded."""

import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

FOLDER, MARKER = Path(sys.argv[1]), Path(sys.argv[2])
generator = np.random.default_rng(1)
x = generator.normal(size=(200, 4))
y = (x[:, 0] + x[:, 1] > 0).astype(int)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)


class Trap:
    def __reduce__(self):
        return Path.touch, (MARKER,)


joblib.dump({"model": model, "trap": Trap()}, FOLDER / "trap.joblib")
joblib.dump({"model": model, "trap": Trap()}, FOLDER / "packed.joblib", compress=3)
joblib.dump({"model": model, "threshold": 0.6}, FOLDER / "plain.joblib")
skops.io.dump(model, FOLDER / "plain.skops")
named = make_pipeline(FunctionTransformer(Path.touch), LogisticRegression()).set_params(
    functiontransformer__func=print
)
skops.io.dump(named, FOLDER / "foreign.skops")
(FOLDER / "elsewhere.pkl").write_bytes(pickle.dumps(model).replace(b"sklearn.pipeline", b"sklearn.pipelint"))
