"""The ONNX project's own backend tests through every ONNX road; see ``python -m tools.onnx_coverage --help``."""
