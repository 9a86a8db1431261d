"""Files of pictures, where Pillow is installed."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack_runtime.decoding import read_picture
from edgepack_runtime.errors import FileError, InputError

pillow = pytest.importorskip("PIL.Image")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def test_a_picture_comes_back_pixel_by_pixel(tmp_path):
    pillow.fromarray(PIXELS).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), PIXELS)


def test_a_gray_picture_has_three_colours(tmp_path):
    pillow.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), PIXELS[..., :1].repeat(3, 2))


def test_sixteen_bits_a_colour_are_refused(tmp_path):
    pillow.fromarray(PIXELS[..., 0].astype(np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="is not 8 bits a colour"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_damaged_picture_is_refused(tmp_path, keep):
    pillow.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.png: "):
        read_picture(tmp_path / "a.png")


def test_a_picture_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 20)
    pillow.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="exceeds limit"):
        read_picture(tmp_path / "a.png")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileError, match=r"b\.png: No such file"):
        read_picture(tmp_path / "b.png")
