"""What a bundle costs beside the bare engine: ratios, measured by turns in one run (``python -m tools.bench``)."""
