"""Fit small models of scikit-learn and export each into the folder given; runs in the sklearn toolchain.

edgepack is on the import path. Of each model it leaves ``NAME.onnx`` and ``NAME.npz`` (samples, and scikit-learn's
own outputs as ``out:...``), or ``NAME.txt`` with the reason it has none.
"""

import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
from sklearn import cluster as c
from sklearn import decomposition as d
from sklearn import ensemble as e
from sklearn import linear_model as lm
from sklearn import naive_bayes as nb
from sklearn import neighbors as nn
from sklearn import preprocessing as p
from sklearn import svm, tree
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from edgepack.converters.sklearn import export
from edgepack.errors import EdgepackError
from edgepack.model import ConversionRequest

FOLDER = Path(sys.argv[1])
warnings.simplefilter("ignore")
three, two, many = (load(return_X_y=True) for load in (load_iris, load_breast_cancer, load_diabetes))
# Whole numbers in one column, and holes in another.
x, y = three
kinds = np.c_[x, np.arange(len(x)) % 4], y
holes = np.where(np.arange(x.size).reshape(x.shape) % 7 == 1, np.nan, x), y
texts = x, np.array(["setosa", "versicolor", "virginica"])[y]
pairs = many[0], np.c_[many[1], many[1] ** 2]
scale, logistic = p.StandardScaler, lm.LogisticRegression
few = {"n_estimators": 5, "random_state": 0}


def behind(step):
    """Return a step in front of a logistic regression."""
    return make_pipeline(step, logistic(max_iter=500))


def on_columns(step):
    columns = ColumnTransformer([("numbers", scale(), [0, 1, 2, 3]), ("kinds", step, [4])])
    return make_pipeline(columns, logistic(max_iter=500))


MODELS = {
    "StandardScaler + LogisticRegression": (make_pipeline(scale(), logistic()), two),
    "LogisticRegression": (logistic(max_iter=500), three),
    "LogisticRegression (classes are texts)": (logistic(max_iter=500), texts),
    "OneVsRestClassifier": (OneVsRestClassifier(logistic(solver="liblinear")), three),
    "SGDClassifier (log_loss)": (make_pipeline(scale(), lm.SGDClassifier(loss="log_loss", random_state=0)), three),
    "SGDClassifier (hinge)": (make_pipeline(scale(), lm.SGDClassifier(random_state=0)), three),
    "RidgeClassifier": (lm.RidgeClassifier(), three),
    "Perceptron": (lm.Perceptron(), three),
    "MinMaxScaler + SVC (rbf, probability)": (make_pipeline(p.MinMaxScaler(), svm.SVC(probability=True)), three),
    "SVC (rbf)": (svm.SVC(), three),
    "SVC (poly)": (svm.SVC(kernel="poly", degree=2), three),
    "SVC (linear)": (make_pipeline(scale(), svm.SVC(kernel="linear")), two),
    "SVC (sigmoid)": (make_pipeline(scale(), svm.SVC(kernel="sigmoid")), two),
    "NuSVC": (svm.NuSVC(nu=0.3), three),
    "PCA + LinearSVC": (make_pipeline(d.PCA(3), svm.LinearSVC(dual=False)), three),
    "CalibratedClassifierCV (LinearSVC)": (CalibratedClassifierCV(svm.LinearSVC(dual=False)), three),
    "SVR": (svm.SVR(), many),
    "NuSVR": (svm.NuSVR(), many),
    "LinearSVR": (svm.LinearSVR(dual=True, max_iter=5000, random_state=0), many),
    "OneClassSVM": (svm.OneClassSVM(), three),
    "DecisionTreeClassifier": (tree.DecisionTreeClassifier(random_state=0), three),
    "DecisionTreeRegressor": (tree.DecisionTreeRegressor(max_depth=6, random_state=0), many),
    "RandomForestClassifier": (e.RandomForestClassifier(**few), three),
    "RandomForestClassifier (two classes)": (e.RandomForestClassifier(**few), two),
    "RandomForestRegressor": (e.RandomForestRegressor(max_depth=6, **few), many),
    "ExtraTreesClassifier": (e.ExtraTreesClassifier(**few), three),
    "GradientBoostingClassifier": (e.GradientBoostingClassifier(**few), three),
    "GradientBoostingClassifier (two classes)": (e.GradientBoostingClassifier(**few), two),
    "GradientBoostingRegressor": (e.GradientBoostingRegressor(**few), many),
    "HistGradientBoostingClassifier": (e.HistGradientBoostingClassifier(max_iter=5), three),
    "HistGradientBoostingClassifier (missing values)": (e.HistGradientBoostingClassifier(max_iter=5), holes),
    "HistGradientBoostingRegressor": (e.HistGradientBoostingRegressor(max_iter=5), many),
    "AdaBoostClassifier": (e.AdaBoostClassifier(**few), three),
    "AdaBoostRegressor": (e.AdaBoostRegressor(**few), many),
    "BaggingClassifier": (e.BaggingClassifier(**few), three),
    "VotingClassifier (soft)": (
        e.VotingClassifier([("a", logistic(max_iter=500)), ("b", nb.GaussianNB())], voting="soft"),
        three,
    ),
    "StackingClassifier": (e.StackingClassifier([("a", logistic(max_iter=500)), ("b", nb.GaussianNB())]), three),
    "VotingRegressor": (e.VotingRegressor([("a", lm.Ridge()), ("b", lm.LinearRegression())]), many),
    "IsolationForest": (e.IsolationForest(max_samples=32, **few), three),
    "LocalOutlierFactor": (nn.LocalOutlierFactor(novelty=True), three),
    "EllipticEnvelope": (EllipticEnvelope(random_state=0), three),
    "KNeighborsClassifier": (nn.KNeighborsClassifier(), three),
    "KNeighborsRegressor": (nn.KNeighborsRegressor(), many),
    "NearestCentroid": (nn.NearestCentroid(), three),
    "MLPClassifier": (make_pipeline(scale(), MLPClassifier(max_iter=50, random_state=0)), three),
    "MLPRegressor": (make_pipeline(scale(), MLPRegressor(max_iter=50, random_state=0)), many),
    "GaussianNB": (nb.GaussianNB(), three),
    "BernoulliNB": (make_pipeline(p.Binarizer(threshold=2.0), nb.BernoulliNB()), three),
    "MultinomialNB": (nb.MultinomialNB(), three),
    "ComplementNB": (nb.ComplementNB(), three),
    "LinearDiscriminantAnalysis": (LinearDiscriminantAnalysis(), three),
    "QuadraticDiscriminantAnalysis": (QuadraticDiscriminantAnalysis(), three),
    "GaussianMixture": (GaussianMixture(3, random_state=0), three),
    "GaussianProcessClassifier": (GaussianProcessClassifier(), (two[0][:60], two[1][:60])),
    "LinearRegression": (lm.LinearRegression(), many),
    "LinearRegression (two targets)": (lm.LinearRegression(), pairs),
    "Ridge": (lm.Ridge(), many),
    "Lasso": (lm.Lasso(), many),
    "ElasticNet": (lm.ElasticNet(), many),
    "HuberRegressor": (lm.HuberRegressor(max_iter=1000), many),
    "PoissonRegressor": (lm.PoissonRegressor(), many),
    "PLSRegression": (PLSRegression(2), many),
    "MultiOutputRegressor": (MultiOutputRegressor(lm.Ridge()), pairs),
    "MultiOutputClassifier": (MultiOutputClassifier(logistic(max_iter=500)), (x, np.c_[y, y[::-1]])),
    "TransformedTargetRegressor": (
        TransformedTargetRegressor(lm.Ridge(), func=np.log1p, inverse_func=np.expm1),
        many,
    ),
    "KMeans": (c.KMeans(3, n_init=3, random_state=0), three),
    "DBSCAN": (c.DBSCAN(), three),
    "StandardScaler": (scale(), three),
    "PCA": (d.PCA(2), three),
    "PCA (whiten)": (d.PCA(2, whiten=True), three),
    "TruncatedSVD": (d.TruncatedSVD(2), three),
    "KernelPCA": (d.KernelPCA(2, kernel="rbf"), three),
    "FastICA": (d.FastICA(2, random_state=0), three),
    "NMF": (d.NMF(2, random_state=0, max_iter=1000), three),
    "PolynomialFeatures + Ridge": (make_pipeline(p.PolynomialFeatures(2), lm.Ridge()), many),
    "SplineTransformer + Ridge": (make_pipeline(p.SplineTransformer(), lm.Ridge()), many),
    "Normalizer": (behind(p.Normalizer()), three),
    "Normalizer (l1)": (behind(p.Normalizer("l1")), three),
    "Normalizer (max)": (behind(p.Normalizer("max")), three),
    "RobustScaler": (behind(p.RobustScaler()), three),
    "MaxAbsScaler": (behind(p.MaxAbsScaler()), three),
    "PowerTransformer": (behind(p.PowerTransformer()), three),
    "QuantileTransformer": (behind(p.QuantileTransformer(n_quantiles=20)), three),
    "KBinsDiscretizer": (behind(p.KBinsDiscretizer(4, encode="onehot-dense")), three),
    "Binarizer": (behind(p.Binarizer(threshold=2.0)), three),
    "OneHotEncoder": (on_columns(p.OneHotEncoder(sparse_output=False)), kinds),
    "OrdinalEncoder": (on_columns(p.OrdinalEncoder()), kinds),
    "SimpleImputer": (behind(SimpleImputer()), holes),
    "KNNImputer": (behind(KNNImputer()), holes),
    "SelectKBest": (behind(SelectKBest(k=2)), three),
    "VarianceThreshold": (behind(VarianceThreshold(0.2)), three),
    "FeatureUnion": (behind(make_union(d.PCA(2), scale())), three),
    "FunctionTransformer": (behind(p.FunctionTransformer(np.log1p)), three),
    "Pipeline (passthrough)": (Pipeline([("a", "passthrough"), ("b", logistic(max_iter=500))]), three),
    "RBFSampler": (behind(RBFSampler(random_state=0)), three),
    "Nystroem": (behind(Nystroem(n_components=20, random_state=0)), three),
}

for number, (name, (model, (features, targets))) in enumerate(MODELS.items()):
    data = features.astype(np.float32)
    path = FOLDER / f"{number:03}"
    joblib.dump(model.fit(data, targets), path.with_suffix(".joblib"))
    samples = data[:: max(1, len(data) // 30)][:30]
    request = ConversionRequest(
        source=path.with_suffix(".joblib"), options="{}", feeds={"x": samples}, scratch=FOLDER, trusted=True
    )
    try:
        found = export(request)
    except EdgepackError as error:
        path.with_suffix(".txt").write_text(f"{name}\n{error.message}")
        continue
    values = {f"out:{o.name}": found.reference[o.name].reshape(-1, *o.shape) for o in found.outputs}
    path.with_suffix(".onnx").write_bytes(found.model)
    np.savez(path.with_suffix(".npz"), name=np.array(name), x=samples, **values)
