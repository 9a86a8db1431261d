"""Operators of a SavedModel that reach out of it: files, sockets, Python functions. Found without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.errors import ConversionError, SourceModelError

__all__ = ["reaches_out", "refuse_reaching_out"]

_FILES = frozenset(
    {"CSVDataset", "CSVDatasetV2", "CacheDataset", "CacheDatasetV2", "CalibrationStatisticsSaver"}
    | {"CreateSummaryDbWriter", "CreateSummaryFileWriter", "DatasetToTFRecord", "DatasetToTFRecordV2", "DumpTensor"}
    | {"ExperimentalCSVDataset", "ExperimentalDatasetToTFRecord", "ExperimentalLMDBDataset"}
    | {"ExperimentalMatchingFilesDataset", "ExperimentalSqlDataset", "FixedLengthRecordDataset"}
    | {"FixedLengthRecordDatasetV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "GenerateVocabRemapping"}
    | {"IdentityReader", "IdentityReaderV2", "ImportEvent", "LMDBDataset", "LMDBReader", "ListSnapshotChunksDataset"}
    | {"LoadAndRemapMatrix", "LoadDataset", "MatchingFiles", "MatchingFilesDataset", "ReadFile", "RecordInput"}
    | {"SaveDataset", "SaveDatasetV2", "Skipgram", "SnapshotChunkDataset", "SnapshotDataset", "SnapshotDatasetReader"}
    | {"SnapshotDatasetV2", "SnapshotNestedDatasetReader", "SqlDataset", "TFRecordDataset", "TFRecordDatasetV2"}
    | {"TFRecordReader", "TFRecordReaderV2", "TextLineDataset", "TextLineReader", "TextLineReaderV2"}
    | {"WholeFileReader", "WholeFileReaderV2", "WriteFile"}
)
_NETWORK = frozenset(
    {"BigQueryReader", "DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4"}
    | {"DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary"}
    | {"DebugNumericSummaryV2", "DistributedSave", "FileSystemSetConfiguration", "Recv", "RegisterDataset"}
    | {"RegisterDatasetV2", "RemoteCall", "RpcCall", "RpcClient", "RpcGetValue", "RpcServer", "RpcServerRegister"}
    | {"RpcServerStart", "Send"}
)
_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
# A graph inside a constant, which nobody reads before it runs.
_GRAPHS = frozenset({"DatasetFromGraph"})
# Attributes that may name a file, by operator; what begins in another way than these does.
_MAY_NAME_FILES = {
    "DecodeProtoV2": ("descriptor_source", ("local://", "bytes://")),
    "EncodeProto": ("descriptor_source", ("local://", "bytes://")),
    "FixedUnigramCandidateSampler": ("vocab_file", ()),
    "PrintV2": ("output_stream", ("stdout", "stderr", "log(")),
}
_WHAT = (
    (_FILES, "reads or writes files"),
    (_NETWORK, "speaks to other machines"),
    (_PYTHON, "calls Python functions, which are not in the file"),
    (_GRAPHS, "runs another graph than the file's"),
)


def refuse_reaching_out(folder: Path, *, trusted: bool) -> tuple[str, ...]:
    """Refuse a SavedModel with an operator that does something else than compute, or that TensorFlow does not have.

    Args:
        folder: the SavedModel.
        trusted: let the former be, and return which there are.

    Raises:
        SourceModelError: it cannot be read.
        ConversionError: there is one; the message names it.
    """
    model = _read(folder)
    _refuse_unknown(model)
    found = [f"node {node.name!r} ({node.op}) {what}" for node in _nodes(model) if (what := _does(node))]
    if found and not trusted:
        raise ConversionError(
            f"the SavedModel is refused before it is loaded: {'; '.join(found[:5])}",
            hint="export it without that part; --trust-source runs it, in the child process without your files",
        )
    return tuple(f"--trust-source let this run: {text}" for text in found[:5])


def _read(folder: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise SourceModelError(f"the SavedModel cannot be read: {error}") from None
    return model


def _nodes(model: Any) -> Iterator[Any]:
    for meta in model.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            yield from function.node_def


def _refuse_unknown(model: Any) -> None:
    from tensorflow.python.framework import op_def_registry

    # A function can be called as if it were an operator.
    known = {f.signature.name for meta in model.meta_graphs for f in meta.graph_def.library.function}
    for node in _nodes(model):
        if node.op not in known and op_def_registry.get(node.op) is None:
            raise ConversionError(
                f"the SavedModel needs the operator {node.op!r} (node {node.name!r}), which TensorFlow does not have",
                hint="it is somebody's own: replace it by standard operators in the source model",
            )
        known.add(node.op)


def _does(node: Any) -> str:
    """Return what a node does beside computing, '' for nothing."""
    if node.op not in _MAY_NAME_FILES:
        return reaches_out(node.op)
    attribute, harmless = _MAY_NAME_FILES[node.op]
    told = node.attr[attribute].s.decode("utf-8", "replace")
    return f"opens {told!r} ({attribute})" if told and not told.startswith(harmless) else ""


def reaches_out(operator: str) -> str:
    """Return what an operator of TensorFlow does beside computing, whatever its attributes say; '' for nothing."""
    return next((what for names, what in _WHAT if operator in names), "")
