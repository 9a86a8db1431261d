"""One TFLite -> TFLite step a module; a new module is all a new pass needs.

A pass module has

- ``SCHEME``: the quantization scheme it produces (`edgepack_runtime.profile.SCHEMES`);
- ``Options``: a frozen keyword-only dataclass with defaults for everything;
- ``run(request: PassRequest) -> PassResult``, called in a child process of the base install.

Importing one does nothing: the quantizer is imported inside ``run``.
"""
