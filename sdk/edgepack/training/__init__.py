"""Training-time passes: each retrains a Keras model with a training set, and gives a Keras model again.

They run in the child process, under the `tensorflow` toolchain; nothing here is imported by the host but their
`Options`. Every module without an underscore is one of them: `Options` with defaults, and
`run(request: TrainRequest) -> TrainResult`.
"""

from __future__ import annotations

__all__: list[str] = []
