"""What a user writes to have a bundle require other products."""

from __future__ import annotations

import re

import pytest

from edgepack.errors import RecipeError
from edgepack.recipe import parse_requires
from edgepack_runtime.manifest import MAX_REQUIREMENTS, Requirement


def test_requirements_are_ordered_by_product():
    assert parse_requires(("detector=2", "classifier=31"), "cat") == (
        Requirement(product="classifier", security_version=31),
        Requirement(product="detector", security_version=2),
    )


@pytest.mark.parametrize(
    "item", ["classifier", "classifier=", "=3", "classifier=0", "classifier=-1", "classifier=1.5", "classifier=03",
             "a b=1", "../x=1", "classifier=" + "9" * 16, f"{'a' * 32}=1"],
)  # fmt: skip
def test_what_is_no_product_and_version_is_refused(item):
    with pytest.raises(RecipeError, match=re.escape(f"requires {item!r}: expected PRODUCT=SECURITY_VERSION")):
        parse_requires((item,), "cat")


def test_a_bundle_cannot_require_itself():
    with pytest.raises(RecipeError, match="cannot require itself"):
        parse_requires(("cat=1",), "cat")


def test_a_product_is_required_once():
    with pytest.raises(RecipeError, match=re.escape("requires 'classifier=4': twice")):
        parse_requires(("classifier=3", "classifier=4"), "cat")


def test_more_requirements_than_a_manifest_holds_are_refused():
    items = tuple(f"p{number}=1" for number in range(MAX_REQUIREMENTS + 1))
    with pytest.raises(RecipeError, match=f"requires {MAX_REQUIREMENTS + 1} other products"):
        parse_requires(items, "cat")
