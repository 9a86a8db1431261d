"""Until when a bundle may be installed: a day, or a number of days."""

from __future__ import annotations

import dataclasses

import pytest

import bundlekit
from edgepack.errors import RecipeError
from edgepack.recipe import FILE_NAME, Recipe, expiry, load_recipe
from edgepack_runtime.errors import ExpiredError

NOON = 1_798_718_400  # 2026-12-31
NEW_YEAR = NOON + 12 * 3600

TOML = """
[model]
path = "m.tflite"
[data]
calibration = "c.npz"
[build]
profiles = ["p"]
expires = {}
"""


@pytest.mark.parametrize(
    ("said", "found"),
    [("", 0), ("1", NOON + 86_400), ("99999", NOON + 99_999 * 86_400), ("2027-01-01", NEW_YEAR)],
)
def test_a_day_or_a_number_of_days_becomes_a_moment(said, found):
    assert expiry(said, NOON) == found


@pytest.mark.parametrize("day", ["2026-12-31", "2025-06-01"])
def test_a_day_that_has_begun_is_refused(day):
    with pytest.raises(RecipeError, match="that day has begun"):
        expiry(day, NOON)


@pytest.mark.parametrize(
    "said", ["0", "-1", "100000", "1.5", "2027-02-30", "2027-1-1", "20270101", "2027-01-01T10:00", "soon", " 3"]
)
def test_anything_else_is_refused_before_the_build_begins(tmp_path, said):
    with pytest.raises(RecipeError, match="neither a day"):
        Recipe(model=tmp_path / "m", calibration=tmp_path / "c", profiles=("p",), output=tmp_path / "o", expires=said)


@pytest.mark.parametrize(
    ("text", "found"),
    [("365", "365"), ('"365"', "365"), ('"2027-06-30"', "2027-06-30"), ("2027-06-30", "2027-06-30")],
)
def test_a_recipe_names_it_as_text_number_or_date(tmp_path, text, found):
    (tmp_path / FILE_NAME).write_text(TOML.format(text))
    assert load_recipe(tmp_path / FILE_NAME).expires == found


@pytest.mark.parametrize("text", ["true", "1.5", "[1]", "2027-06-30T10:00:00Z", "0"])
def test_a_recipe_with_anything_else_is_refused(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(TOML.format(text))
    with pytest.raises(RecipeError, match="expires"):
        load_recipe(tmp_path / FILE_NAME)


def test_a_device_installs_it_until_that_moment_and_not_from_then_on():
    moment = expiry("2027-01-01", NOON)
    header = dataclasses.replace(bundlekit.HEADER, created=NOON, expires=moment)
    data = bundlekit.make(header=header).file()
    just_before = dataclasses.replace(bundlekit.POLICY, now=moment - 1)
    assert bundlekit.check(data, policy=just_before).header.expires == moment
    with pytest.raises(ExpiredError):
        bundlekit.check(data, policy=dataclasses.replace(bundlekit.POLICY, now=moment))
