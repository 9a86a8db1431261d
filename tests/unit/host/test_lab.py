"""Replays, in this process, on models made by hand."""

from __future__ import annotations

import numpy as np
from handmade import doubling

from edgepack.lab import LabRequest, replay


def test_a_scalar_input_stays_one():
    feeds = {"x": np.array([1.5, 2.0, -3.0], np.float32)}
    request = LabRequest(model=doubling([]), engine="ai-edge-litert", num_threads=1, feeds=feeds)
    assert replay(request).outputs["y"].tolist() == [3.0, 4.0, -6.0]
