"""One road from a source format a module; a new module is all a new format or a new road needs.

A converter module has

- ``FORMATS``: the names `edgepack.source.detect` gives its files;
- ``ROAD``: what `--via` calls it; roads of two formats may share a name;
- ``TOOLCHAIN``: the pinned environment it runs in (`edgepack.toolchain`), or ``"host"`` for the base install;
- ``Options``: a frozen keyword-only dataclass with defaults for everything;
- ``convert(request: ConversionRequest) -> Conversion``, called in a child process; or, where it gives no TFLite,
- ``THEN``: the format it exports to, and ``export(request: ConversionRequest) -> Export``. The roads of that format
  go on from there, and their result is judged beside what the exporter's own framework computed;
- ``first_difference(request: ConversionRequest) -> Divergence``, if it can name the layer that a refused conversion
  gets wrong; called in a child process too.

Importing one does nothing: the framework is imported inside ``convert`` and ``export``.
"""
