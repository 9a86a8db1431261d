"""The list of what is installed, as bytes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgepack_runtime.errors import StoreError
from edgepack_runtime.slots import Health, Moment, Product, SlotState, shown
from edgepack_runtime.store import MAX_STORE_BYTES, Store
from storekit import GOOD, ON_TRIAL, READY, slot

OTHER = Product(name="voices", active=replace(slot(3, SlotState.GOOD), granted=True))
STORES = [
    Store(),
    Store(serial=2, products=(GOOD,)),
    Store(serial=9, products=(READY, OTHER)),
    Store(serial=3, products=(ON_TRIAL.started(0, Moment(boot="b", seconds=7)), OTHER)),
    Store(serial=2, products=(ON_TRIAL.given_up(2, "because"),)),
    Store(serial=2, products=(READY.activated(Health(starts=4, seconds=60)),)),
    Store(serial=1, products=(Product(name="x", active=slot(1, SlotState.GOOD, 2**64 - 1)),)),
]
TABLE = json.loads(STORES[3].to_bytes())


@pytest.mark.parametrize("store", STORES)
def test_what_is_written_is_read_again(store):
    assert Store.from_bytes(store.to_bytes()) == store


def changed(path: str, value: object) -> bytes:
    table = json.loads(json.dumps(TABLE))
    *way, last = path.split(".")
    at = table
    for step in way:
        at = at[int(step) if step.isdecimal() else step]
    at[last] = value
    return json.dumps(table).encode()


def test_the_table_is_read_as_it_is():
    assert Store.from_bytes(changed("serial", 3)) == STORES[3]


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("schema", 2, "not known"),
        ("extra", 1, "unknown field"),
        ("serial", "3", "expected int"),
        ("serial", 1, "number"),
        ("products.0.name", "zz", "ascending"),
        ("products.0.name", "../x", "contradict"),
        ("products.0.more", 1, "unknown field"),
        ("products.0.active.state", "good", "contradict"),
        ("products.0.active.state", "fine", "none of"),
        ("products.0.active.number", 3, "share a number"),
        ("products.0.active.number", 0, "share a number"),
        ("products.0.active.number", -1, "below 0"),
        ("products.0.active.length", -1, "below 0"),
        ("products.0.active.digest", "../../etc/passwd", "hexadecimal"),
        ("products.0.active.security_version", 7, "expected text"),
        ("products.0.active.security_version", "-7", "64 bits"),
        ("products.0.active.security_version", str(2**64), "64 bits"),
        ("products.0.active.security_version", "1" * 5000, "64 bits"),
        ("products.0.active.security_version", "\u0661", "64 bits"),
        ("products.0.active.granted", 1, "expected true/false"),
        ("products.0.active.x", 1, "unknown field"),
        ("products.0.trial.starts", 0, "health check"),
        ("products.0.trial.first", True, "expected int"),
        ("products.0.trial.x", 1, "unknown field"),
    ],
)
def test_a_damaged_list_is_refused(path, value, why):
    with pytest.raises(StoreError, match=why):
        Store.from_bytes(changed(path, value))


@pytest.mark.parametrize("data", [b"", b"rust", b"[]", b'{"schema":1}', STORES[3].to_bytes()[:-20]])
def test_what_is_no_list_is_refused(data):
    with pytest.raises(StoreError):
        Store.from_bytes(data)


def test_a_product_of_which_nothing_is_installed_has_empty_slots():
    assert STORES[1].product("voices") == Product(name="voices")


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 32])
def test_what_is_no_name_of_a_product_is_refused(name):
    with pytest.raises(StoreError):
        STORES[1].product(name)


def test_replacing_a_product_leaves_the_others():
    store = STORES[2].replacing(GOOD)
    assert store.products == (GOOD, OTHER)


def test_a_product_without_bundles_is_forgotten():
    assert STORES[2].replacing(Product(name="digits")).products == (OTHER,)


def test_the_files_are_those_of_all_slots():
    assert STORES[2].files() == {"1.edgepack", "2.edgepack", "3.edgepack", "3.edgepack.grant"}


def test_too_many_products_are_refused():
    products = tuple(Product(name=f"p{i:03}", active=slot(i + 1, SlotState.GOOD)) for i in range(257))
    assert len(Store(serial=257, products=products[:256]).products) == 256
    with pytest.raises(StoreError, match="at most 256"):
        Store(serial=257, products=products)


def test_the_fullest_list_is_not_longer_than_what_is_read():
    # JSON needs twelve letters for such a character; names of versions are cut to 64.
    most, products, last = "\U0001f600" * 10_000, [], 2**53 - 1
    for i in range(256):
        good, new = (
            replace(
                slot(last - 2 * i - k, SlotState.GOOD, 2**64 - 1), version=shown(most, 64), length=last, granted=True
            )
            for k in range(2)
        )
        product = Product(name=f"{i:031}", active=good, spare=replace(new, state=SlotState.INSTALLED))
        products.append(product.activated(Health()).given_up(new.number, most))
    assert len(Store(serial=last, products=tuple(products)).to_bytes()) <= MAX_STORE_BYTES
