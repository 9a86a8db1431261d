"""The decrypted model, and the engines it is loaded into."""

from __future__ import annotations

from edgepack_runtime._data import dataclass
from edgepack_runtime.admission import check_specs
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.engines import Engine, load
from edgepack_runtime.errors import EngineError
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.plaintext import PlaintextModel
from edgepack_runtime.verify import UnlockedBundle

__all__ = ["DecryptedModel", "decrypt_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptedModel:
    """A decrypted model. Engines map it, so that keeping it open takes no memory, and each shares the one copy."""

    manifest: Manifest
    plaintext: PlaintextModel
    num_threads: int | None

    def load(self) -> Engine:
        """Return it in an engine of its own, the one it was proven under.

        Raises:
            EngineError: the engine is missing, of another version, or refuses the model; the session is closed.
            FormatError: the model's tensors are not those of the manifest.
        """
        wanted, path = self.manifest.profile.engine, self.plaintext.path
        if path is None:
            closed = self.plaintext.content is None
            raise EngineError("the session is closed" if closed else "opening a model needs memfd, as Linux has")
        threads = self.num_threads or wanted.num_threads
        engine = load(wanted.name, path, num_threads=threads, delegates=wanted.libraries)
        try:
            check_specs(self.manifest.model.inputs, engine.inputs)
            check_specs(self.manifest.model.outputs, engine.outputs)
        except BaseException:
            engine.close()
            raise
        return engine


def decrypt_model(unlocked: UnlockedBundle, manifest: Manifest, file: BundleFile) -> PlaintextModel:
    """Return the model entry, decrypted into memory.

    Raises:
        FormatError: there is no such entry.
        PayloadError: it was altered.
        FileError: the file cannot be read, or there is not enough memory.
    """
    name = manifest.model.entry
    size = unlocked.bundle.entry(name).content_length
    return PlaintextModel(size, lambda into: unlocked.read_entry(name, file.read, into))
