"""What the TFLite engines share: both wheels carry the same `Interpreter` class under another package name."""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np

from edgepack_runtime.engines._distributions import installed_version
from edgepack_runtime.errors import EngineError, FileError, InputError
from edgepack_runtime.tensors import DTYPES, Array, QuantizationParameters, SignatureSpec, TensorSpec, check_feeds

__all__ = ["InterpreterEngine", "import_interpreter", "makes", "open_model"]

# What the bindings raise: Python checks, C++ status codes, a C function that failed without an exception, malloc.
_FOREIGN = (ValueError, RuntimeError, SystemError, MemoryError)
_MAX_REASON = 300
Got = TypeVar("Got")
_Indices = tuple[tuple[str, int], ...]
_IDENTIFIER = b"TFL3"


def import_interpreter(
    name: str, module: str, *, hint: str, check: Callable[[], None] | None = None
) -> tuple[str, Any]:
    """Return version and `Interpreter` class of the distribution `name`.

    Args:
        name: the distribution.
        module: where its `Interpreter` is.
        hint: how to install it, for messages.
        check: what must hold before its import; raises `EngineError`.

    Raises:
        EngineError: it is not installed, cannot be imported, or `check` refused.
    """
    version = installed_version(name)
    if version is None:
        raise EngineError(f"engine {name} is not installed", hint=hint)
    if check is not None:
        check()
    try:
        return version, importlib.import_module(module).Interpreter
    except (ImportError, AttributeError, SystemError) as error:
        raise EngineError(f"engine {name} {version} cannot be imported: {_reason(error)}", hint=hint) from None


def open_model(
    interpreter: Any, model_path: str, *, num_threads: int, delegates: tuple[str, ...], engine: tuple[str, str]
) -> InterpreterEngine:
    """Return the model at `model_path`, loaded and with its tensors allocated.

    Raises:
        EngineError: the engine refuses the model, it cannot be run by names, or a delegate's library is missing.
        FileError: `model_path` cannot be read.
    """
    _check_identifier(model_path)
    name, version = engine
    more: Any = {"experimental_delegates": [_delegate(interpreter, d) for d in delegates]} if delegates else {}
    try:
        made = interpreter(model_path=model_path, num_threads=num_threads, **more)
        made.allocate_tensors()
    except (*_FOREIGN, AttributeError) as error:
        # ai-edge-litert 1.1.0 calls what it does not have, whatever the number of threads.
        raise EngineError(f"{name} {version} refuses the model: {_reason(error)}") from None
    return InterpreterEngine(made, name=name, version=version)


def _delegate(interpreter: Any, library: str) -> Any:
    import ctypes

    try:
        # The engine's own class leaves a complaint of its destructor behind where a library is missing.
        ctypes.CDLL(library)
        return importlib.import_module(interpreter.__module__).load_delegate(library)
    except (OSError, *_FOREIGN) as error:
        raise EngineError(
            f"delegate library {library} cannot be loaded: {_reason(error)}",
            hint="install it, or build for a profile without it: the model is not run on the processor alone instead",
        ) from None


def makes(interpreter: Any, model: bytes) -> bool:
    """Return whether an interpreter can be made of a TFLite file; nothing is allocated."""
    try:
        interpreter(model_content=model)
    except _FOREIGN:
        return False
    return True


def _check_identifier(model_path: str) -> None:
    # The engine would refuse it too, and quote the bytes it found: of a decrypted model nothing belongs in a message.
    try:
        with open(model_path, "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            head = file.read(8)
    except OSError as error:
        raise FileError(f"{model_path}: cannot be read: {error.strerror}") from None
    if head[4:] != _IDENTIFIER:
        raise EngineError(f"{model_path}: not a TFLite model (no {_IDENTIFIER.decode()} at byte 4)")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    text = "".join(c if c.isascii() and c.isprintable() else "?" for c in text) or type(error).__name__
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}…"


class InterpreterEngine:
    """A model in a TFLite interpreter; see `edgepack_runtime.engines.Engine`."""

    def __init__(self, interpreter: Any, *, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self._interpreter: Any = interpreter
        # What `run_in_place` calls may call the engine again, and is to be refused, not to wait for itself.
        self._lock = threading.RLock()
        self._lent: tuple[weakref.ref[Any], ...] = ()
        try:
            signatures, inputs, outputs = _named_details(interpreter)
        except _FOREIGN as error:
            raise EngineError(f"{name} {version} cannot list the model's tensors: {_reason(error)}") from None
        self.inputs, self.outputs = _specs(dict(inputs)), _specs(dict(outputs))
        only = SignatureSpec(inputs=self.inputs, outputs=self.outputs)
        self.signatures = signatures if len(signatures) > 1 else dict.fromkeys(signatures, only)
        # Indices are looked up once: signature runners do it by name, in Python, at every call.
        self._feeds = tuple((label, int(details["index"])) for label, details in inputs)
        self._fetches = tuple((label, int(details["index"])) for label, details in outputs)
        self._exact = tuple((spec.name, np.dtype(spec.dtype), spec.shape) for spec in self.inputs)
        self._dynamic = any(d < 0 for spec in self.inputs for d in spec.shape)
        self._shapes = {int(details["index"]): tuple(map(int, details["shape"])) for _, details in inputs}

    def run(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return the outputs by name, as copies; a new shape of a dynamic input resets variable tensors.

        Raises:
            InputError: a name, shape or dtype does not fit `inputs`, or those of the signature; or there is no such.
            EngineError: the engine failed, or is closed.
        """
        if signature_key is not None:
            return self._run_signature(signature_key, feeds)
        if not self._fit(feeds):
            # Slower: it takes open dimensions, and says what is wrong.
            check_feeds(feeds, self.inputs)
        with self._lock:
            interpreter = self._opened()
            if self._lent:
                self._check_lent()
            try:
                if self._dynamic:
                    self._resize(feeds)
                for name, index in self._feeds:
                    interpreter.set_tensor(index, feeds[name])
                interpreter.invoke()
                return {name: np.asarray(interpreter.get_tensor(index)) for name, index in self._fetches}
            except _FOREIGN as error:
                self._failed("cannot run the model", error)

    def _run_signature(self, key: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        wanted = self.signatures.get(key)
        if wanted is None:
            raise InputError(f"the model has no signature {key!r}", hint=f"it has: {', '.join(self.signatures)}")
        check_feeds(feeds, wanted.inputs)
        _check_sizes(feeds)
        with self._lock:
            interpreter = self._opened()
            # The engine itself would run it, and move what the arrays show.
            self._check_lent()
            # It gives open dimensions a shape of its own.
            self._shapes.clear()
            try:
                # One that is kept would make the engine refuse every other run.
                found = interpreter.get_signature_runner(key)(**feeds)
            except _FOREIGN as error:
                self._failed(f"cannot run signature {key!r} of the model", error)
            return {spec.name: np.asarray(found[spec.name]) for spec in wanted.outputs}

    def run_in_place(
        self, fill: Callable[[dict[str, Array]], object], read: Callable[[dict[str, Array]], Got]
    ) -> Got:
        """Return what `read` makes of the outputs after `fill` wrote the inputs, both in the engine's own memory.

        Raises:
            EngineError: an array was kept, the model has open dimensions, or the engine failed or is closed.
        """
        with self._lock:
            interpreter = self._opened()
            if self._dynamic:
                raise EngineError("the model has open dimensions: its arrays have no fixed place", hint="use run")
            self._lend(fill, self._feeds, writeable=True)
            try:
                interpreter.invoke()
            except _FOREIGN as error:
                self._failed("cannot run the model", error)
            return self._lend(read, self._fetches, writeable=False)

    def _lend(self, use: Callable[[dict[str, Array]], Got], tensors: _Indices, *, writeable: bool) -> Got:
        self._check_lent()
        # Not the one that ran: `fill` may have closed this.
        interpreter = self._opened()
        views = {name: np.asarray(interpreter.tensor(index)()) for name, index in tensors}
        # An output may be a constant, which lies in the file.
        self._lent = tuple(_lent(view, writeable) for view in views.values())
        try:
            got = use(views)
        finally:
            views.clear()
        self._check_lent()
        return got

    def _check_lent(self) -> None:
        if any(lent() is not None for lent in self._lent):
            raise EngineError(
                "an array of run_in_place is still held", hint="keep a copy of it instead: array.copy()"
            )
        self._lent = ()

    def _fit(self, feeds: Mapping[str, Array]) -> bool:
        if len(feeds) != len(self._exact):
            return False
        for name, dtype, shape in self._exact:
            value = feeds.get(name)
            # numpy has one object for each plain dtype; comparing takes as long as a tiny model.
            if type(value) is not np.ndarray or value.dtype is not dtype or value.shape != shape:
                return False
        return True

    def reset(self) -> None:
        """Set the model's variable tensors to zero.

        Raises:
            EngineError: the engine failed, or is closed.
        """
        with self._lock:
            try:
                self._opened().reset_all_variables()
            except _FOREIGN as error:
                self._failed("cannot reset the model", error)

    def close(self) -> None:
        """Free the model; closing twice is allowed."""
        with self._lock:
            self._interpreter = None

    def _opened(self) -> Any:
        if self._interpreter is None:
            raise EngineError("the engine is closed", hint="open the model again")
        return self._interpreter

    def _resize(self, feeds: Mapping[str, Array]) -> None:
        changed = [(name, index) for name, index in self._feeds if feeds[name].shape != self._shapes.get(index)]
        _check_sizes({name: feeds[name] for name, _ in changed})
        for name, index in changed:
            # Forgotten first: if the engine fails half-way, the next run must not trust this shape.
            self._shapes.pop(index, None)
            self._interpreter.resize_tensor_input(index, feeds[name].shape, strict=True)
        if changed:
            self._interpreter.allocate_tensors()
            self._shapes.update((index, feeds[name].shape) for name, index in changed)

    def _failed(self, what: str, error: BaseException) -> NoReturn:
        raise EngineError(f"{self.name} {self.version} {what}: {_reason(error)}") from None


def _lent(view: Array, writeable: bool) -> weakref.ref[Any]:
    if not writeable:
        view.flags.writeable = False
    return weakref.ref(view)


def _check_sizes(feeds: Mapping[str, Array]) -> None:
    for name, value in feeds.items():
        if value.size == 0:
            raise InputError(f"input {name!r}: shape {list(value.shape)} holds no element")


_Named = list[tuple[str, Mapping[str, Any]]]


def _named_details(interpreter: Any) -> tuple[dict[str, SignatureSpec], _Named, _Named]:
    """Return each signature, and the details of the first graph's inputs and outputs by name."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    runners = {key: interpreter.get_signature_runner(key) for key in sorted(interpreter.get_signature_list())}
    if not runners:
        return {}, _by_tensor_name(inputs), _by_tensor_name(outputs)
    runner = _first_of(runners, inputs)
    named_inputs = _in_graph_order(runner.get_input_details(), inputs)
    if len({details["index"] for _, details in named_inputs}) != len({d["index"] for d in inputs}):
        raise EngineError(f"the signature names {len(named_inputs)} of the model's {len(inputs)} inputs")
    told = {
        key: SignatureSpec(inputs=_specs(one.get_input_details()), outputs=_specs(one.get_output_details()))
        for key, one in runners.items()
    }
    return told, named_inputs, _in_graph_order(runner.get_output_details(), outputs)


def _first_of(runners: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> Any:
    """Return the signature that is run where none is named: the only one, or the first about the first graph."""
    # In another graph the same index is another tensor, and has another name.
    graph = {(details["index"], details["name"]) for details in inputs}
    for key in sorted(runners, key=lambda key: (key != "serving_default", key)):
        told = runners[key].get_input_details().values()
        if len(runners) == 1 or {(details["index"], details["name"]) for details in told} == graph:
            return runners[key]
    raise EngineError(f"none of the model's signatures ({', '.join(runners)}) is about its first graph")


def _by_tensor_name(details: Sequence[Mapping[str, Any]]) -> _Named:
    named = [(str(d["name"]), d) for d in details]
    names = [name for name, _ in named]
    if len(set(names)) != len(names):
        raise EngineError(
            f"the model's tensors {names} share a name, and it has no signature",
            hint="convert it with a signature, which gives each a name of its own",
        )
    return named


def _in_graph_order(signature: Mapping[str, Any], graph: Sequence[Mapping[str, Any]]) -> _Named:
    # Both engines hand a signature's tensors out sorted by name; the graph is what keeps the model's own order.
    position: dict[int, int] = {}
    for i, details in enumerate(graph):
        position.setdefault(int(details["index"]), i)
    for name, details in signature.items():
        if int(details["index"]) not in position:
            raise EngineError(f"the signature's {name!r} is neither an input nor an output of the model's graph")
    return sorted(signature.items(), key=lambda item: position[int(item[1]["index"])])


def _specs(named: Mapping[str, Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(name, details) for name, details in named.items())


def _spec(name: str, details: Mapping[str, Any]) -> TensorSpec:
    dtype = np.dtype(details["dtype"]).name
    if dtype not in DTYPES:
        raise EngineError(f"tensor {name!r} is of dtype {dtype}, expected one of {', '.join(DTYPES)}")
    shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    parameters = details["quantization_parameters"]
    quantization = None
    if len(parameters["scales"]):
        quantization = QuantizationParameters(
            scale=tuple(map(float, parameters["scales"])),
            zero_point=tuple(map(int, parameters["zero_points"])),
            quantized_dimension=int(parameters["quantized_dimension"]),
        )
    return TensorSpec(name=name, dtype=dtype, shape=tuple(map(int, shape)), quantization=quantization)
