"""What classifiers in ONNX give and TFLite has no type for, as numbers: classes that are texts, tables of scores.

    output_label       tensor(string)                 -> int64: the place of the text among the classes
    output_probability seq(map(string, tensor(float)))-> float32: the scores, in the order of the classes

skl2onnx writes both unless it is told otherwise. What the changed model gives is held against the original's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.converters._options import first_line
from edgepack.errors import ConversionError
from edgepack_runtime.tensors import Array

__all__ = ["WAY_OUT", "Plain", "plain_classes"]

_ML = "ai.onnx.ml"
# What a classifier calls its classes, texts and numbers.
_LABELS = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}
# Operators that hand texts on unread: their first input is one.
_CARRIERS = frozenset(
    {"ArrayFeatureExtractor", "Cast", "Flatten", "Gather", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
)
# For a user whose classes or tables are none of these.
WAY_OUT = "export it with whole numbers for classes, and scores as a tensor: in skl2onnx, options={'zipmap': False}"
_CONFIRMED = 32
_TOLD = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A model with tensors of numbers where `original` has texts and tables.

    `texts` are the classes that are told by their place, of the outputs `labels`; `tables` are the classes of each
    output that was a table.
    """

    model: Any
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    tables: Mapping[str, tuple[int | str, ...]]

    def notes(self) -> Iterator[str]:
        """Yield what the manifest's notes say."""
        for name in self.labels:
            places = _listed(f"{i} = {text}" for i, text in enumerate(self.texts))
            yield f"output {name!r}, a text in the source, is the place of the class: {places}"
        for name, classes in self.tables.items():
            yield f"output {name!r}, a table in the source, is the scores of the classes {_listed(map(str, classes))}"

    def confirm(self, source: Path, feeds: Mapping[str, Array], reference: Mapping[str, Array]) -> None:
        """Refuse a model that does not compute what the original does.

        Args:
            source: the original.
            feeds: samples by input, [n, ...].
            reference: what this model gives for them, [n, ...] by output.

        Raises:
            ConversionError: they differ, or the original cannot be run.
        """
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        names = list(reference)
        try:
            session = onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
            rows = [
                session.run(names, {name: np.asarray(value[i]) for name, value in feeds.items()})
                for i in range(min(_CONFIRMED, len(next(iter(feeds.values())))))
            ]
        except Exception as error:
            raise ConversionError(f"onnxruntime cannot run the model: {first_line(error)}") from error
        for i, row in enumerate(rows):
            for name, value in zip(names, row, strict=True):
                if not np.array_equal(self._as_numbers(name, value), reference[name][i], equal_nan=True):
                    raise ConversionError(
                        f"output {name!r} cannot be told in numbers: those of the scores are others", hint=WAY_OUT
                    )

    def _as_numbers(self, name: str, value: Any) -> Any:
        if name in self.tables:
            return np.array([[row[key] for key in self.tables[name]] for row in value], np.float32)
        if name in self.labels:
            return np.vectorize(self.texts.index, otypes=[np.int64])(value)
        return value


def _listed(items: Iterable[str]) -> str:
    shown = list(items)
    return ", ".join(shown[:_TOLD]) + (", ..." if len(shown) > _TOLD else "")


def plain_classes(model: Any) -> Plain | None:
    """Return the model with numbers for texts and tables; None if it has none, or they are used in another way."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tables = dict(_unzipped(copy.graph))
    outputs = {value.name: value.type for value in copy.graph.output}
    labels = [name for name, kind in outputs.items() if kind.tensor_type.elem_type == onnx.TensorProto.STRING]
    if not tables and not labels:
        return None
    texts: list[str] = []
    if labels and not _numbered(copy.graph, texts):
        return None
    del copy.graph.value_info[:]
    return Plain(model=copy, texts=tuple(texts), labels=tuple(labels), tables=tables)


def _unzipped(graph: Any) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    """Put the scores in place of every table of them that is an output; yield its name and its classes."""
    import onnx

    outputs = {value.name: value for value in graph.output}
    for node in graph.node:
        if (node.domain, node.op_type) == (_ML, "ZipMap") and node.output[0] in outputs:
            classes = next(onnx.helper.get_attribute_value(a) for a in node.attribute)
            node.domain, node.op_type = "", "Identity"
            del node.attribute[:]
            outputs[node.output[0]].type.CopyFrom(
                onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape=None)
            )
            yield node.output[0], tuple(c.decode() if isinstance(c, bytes) else c for c in classes)


def _numbered(graph: Any, texts: list[str]) -> bool:
    """Write numbers for texts throughout, each its place in `texts`; return whether nothing reads them as texts."""
    import onnx

    def places(found: Iterable[bytes | str]) -> list[int]:
        told = [text.decode() if isinstance(text, bytes) else text for text in found]
        texts.extend(text for text in dict.fromkeys(told) if text not in texts)
        return [texts.index(text) for text in told]

    carried = set()
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.STRING:
            numbers = np.array(places(tensor.string_data), np.int64).reshape(tuple(tensor.dims))
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
            carried.add(tensor.name)
    for node in graph.node:
        given = [i for i, name in enumerate(node.input) if name in carried]
        attributes = {a.name: a for a in node.attribute}
        if node.domain == _ML and "classlabels_strings" in attributes and node.op_type in _LABELS and not given:
            found = places(attributes["classlabels_strings"].strings)
            node.attribute.remove(attributes["classlabels_strings"])
            node.attribute.append(onnx.helper.make_attribute(_LABELS[node.op_type], found))
            carried.add(node.output[0])
        elif given == [0] and node.op_type in _CARRIERS:
            if node.op_type == "Cast":
                if attributes["to"].i != onnx.TensorProto.STRING:
                    return False
                attributes["to"].i = onnx.TensorProto.INT64
            carried.add(node.output[0])
        elif given:
            return False
    for value in graph.output:
        if value.name in carried:
            value.type.tensor_type.elem_type = onnx.TensorProto.INT64
        elif value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            return False
    return True
