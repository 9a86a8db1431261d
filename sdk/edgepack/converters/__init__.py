"""One source format a module; a new module is all a new format needs.

A converter module has

- ``FORMAT``: the name `edgepack.source.detect` gives its files;
- ``TOOLCHAIN``: the pinned environment it runs in (`edgepack.toolchain`), or ``"host"`` for the base install;
- ``Options``: a frozen keyword-only dataclass with defaults for everything;
- ``convert(request: ConversionRequest) -> Conversion``, called in a child process.

Importing one does nothing: the framework is imported inside ``convert``.
"""
