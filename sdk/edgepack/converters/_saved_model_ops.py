"""Operators of a SavedModel that reach out of it: files, sockets, Python functions. Found without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.errors import ConversionError, SourceModelError

__all__ = ["refuse_reaching_out"]

_FILES = frozenset(
    {"DatasetToTFRecord", "DatasetToTFRecordV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2"}
    | {"FixedLengthRecordReader", "FixedLengthRecordReaderV2", "IdentityReader", "IdentityReaderV2", "ImportEvent"}
    | {
        "LMDBReader",
        "LoadDataset",
        "MatchingFiles",
        "MatchingFilesDataset",
        "ReadFile",
        "SaveDataset",
        "SaveDatasetV2",
    }
    | {"SnapshotDataset", "SnapshotDatasetV2", "SqlDataset", "TFRecordDataset", "TFRecordDatasetV2", "TFRecordReader"}
    | {"TFRecordReaderV2", "TextLineDataset", "TextLineReader", "TextLineReaderV2", "WholeFileReader"}
    | {
        "WholeFileReaderV2",
        "WriteFile",
        "CacheDataset",
        "CacheDatasetV2",
        "CSVDataset",
        "CSVDatasetV2",
        "LMDBDataset",
    }
    | {"CreateSummaryDbWriter", "CreateSummaryFileWriter", "ExperimentalCSVDataset", "ExperimentalLMDBDataset"}
    | {"ExperimentalMatchingFilesDataset", "ExperimentalSqlDataset"}
)
_NETWORK = frozenset(
    {"BigQueryReader", "DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4"}
    | {"DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary"}
    | {"DebugNumericSummaryV2", "RegisterDataset", "RegisterDatasetV2", "RemoteCall", "RpcCall", "RpcClient"}
    | {"RpcServer", "RpcServerRegister", "RpcServerStart"}
)
_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
_WHAT = (
    (_FILES, "reads or writes files"),
    (_NETWORK, "speaks to other machines"),
    (_PYTHON, "calls Python functions, which are not in the file"),
)


def refuse_reaching_out(folder: Path, *, trusted: bool) -> tuple[str, ...]:
    """Refuse a SavedModel with an operator that does something else than compute.

    Args:
        folder: the SavedModel.
        trusted: let them be, and return which there are.

    Raises:
        SourceModelError: it cannot be read.
        ConversionError: there is one; the message names it.
    """
    found = [f"node {node.name!r} ({node.op}) {what}" for node in _nodes(folder) if (what := _does(node))]
    if found and not trusted:
        raise ConversionError(
            f"the SavedModel is refused before it is loaded: {'; '.join(found[:5])}",
            hint="export it without that part; --trust-source runs it, in the child process without your files",
        )
    return tuple(f"--trust-source let this run: {text}" for text in found[:5])


def _nodes(folder: Path) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise SourceModelError(f"the SavedModel cannot be read: {error}") from None
    for meta in model.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            yield from function.node_def


def _does(node: Any) -> str:
    """Return what a node does beside computing, '' for nothing."""
    if node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:"):
        return f"prints into the file {node.attr['output_stream'].s.decode('utf-8', 'replace')!r}"
    return next((what for names, what in _WHAT if node.op in names), "")
