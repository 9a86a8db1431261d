"""What is installed on this device: every product with its two slots, and the JSON text that says so. No I/O."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime.errors import SchemaError, StoreError
from edgepack_runtime.slots import Health, Moment, Product, Slot, SlotState, Trial

__all__ = ["MAX_STORE_BYTES", "Store"]

# What the fullest list takes: all products, both slots, and why they failed in characters that JSON escapes.
MAX_STORE_BYTES = 4 << 20
_MAX_PRODUCTS = 256
_MAX_SECURITY_VERSION = 2**64 - 1
_VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Everything that is installed; `products` are in ascending order of name, `serial` numbers the bundles.

    Raises:
        StoreError: products are out of order or too many, or two bundles share a number.
    """

    serial: int = 0
    products: tuple[Product, ...] = ()

    def __post_init__(self) -> None:
        names = [product.name for product in self.products]
        numbers = [slot.number for product in self.products for slot in product.slots]
        if any(a >= b for a, b in itertools.pairwise(names)) or len(names) > _MAX_PRODUCTS:
            raise StoreError(f"store: {len(names)} products, wanted at most {_MAX_PRODUCTS} in ascending order")
        if len(set(numbers)) != len(numbers) or not all(0 < number <= self.serial for number in numbers):
            raise StoreError("store: two bundles share a number, or one has none")

    def product(self, name: str) -> Product:
        """Return a product; one of which nothing is installed has empty slots.

        Raises:
            StoreError: `name` is no name of a product.
        """
        return next((product for product in self.products if product.name == name), Product(name=name))

    def replacing(self, product: Product) -> Store:
        """Return the store with this product as it is now.

        Raises:
            StoreError: there are too many products.
        """
        others = [other for other in self.products if other.name != product.name]
        kept = [*others, product] if product.slots else others
        return replace(self, products=tuple(sorted(kept, key=lambda p: p.name)))

    def files(self) -> frozenset[str]:
        """Return the names of all files that belong to a slot."""
        return frozenset(name for product in self.products for slot in product.slots for name in slot.files)

    def to_bytes(self) -> bytes:
        """Return the JSON text `from_bytes` reads."""
        products = [_product_to_json(product) for product in self.products]
        return canonical_json({"schema": _VERSION, "serial": self.serial, "products": products}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Store:
        """Return the store that `data` describes.

        Raises:
            StoreError: it is damaged or of another version; the message says where.
        """
        try:
            fields = Fields(parse_json(data, "store"), "store")
            if (version := fields.take("schema", int)) != _VERSION:
                fields.refuse("schema", f"version {version} is not known here")
            serial = fields.take("serial", int)
            products = tuple(_read_product(item) for item in fields.take_tables("products"))
            fields.finish()
        except SchemaError as error:
            raise StoreError(error.message) from None
        return cls(serial=serial, products=products)


def _product_to_json(product: Product) -> dict[str, object]:
    slots = {"active": product.active, "spare": product.spare}
    table: dict[str, object] = {"name": product.name}
    table |= {role: _slot_to_json(slot) for role, slot in slots.items() if slot is not None}
    if product.trial is not None:
        trial = product.trial
        table["trial"] = {
            "starts": trial.health.starts,
            "seconds": trial.health.seconds or 0,
            "started": trial.started,
            "boot": trial.first.boot,
            "first": trial.first.seconds,
        }
    return table


def _slot_to_json(slot: Slot) -> dict[str, object]:
    return {
        "number": slot.number,
        "state": slot.state.value,
        "digest": slot.digest,
        "version": slot.version,
        # As text: a number of 64 bits does not fit every reader of JSON.
        "security_version": str(slot.security_version),
        "length": slot.length,
        "granted": slot.granted,
        "note": slot.note,
    }


def _read_product(fields: Fields) -> Product:
    names = fields.names()
    product = Product(
        name=fields.take("name", str),
        active=_read_slot(fields.take_table("active")) if "active" in names else None,
        spare=_read_slot(fields.take_table("spare")) if "spare" in names else None,
        trial=_read_trial(fields.take_table("trial")) if "trial" in names else None,
    )
    fields.finish()
    return product


def _read_slot(fields: Fields) -> Slot:
    version = fields.take("security_version", str)
    if not (_NUMBER.fullmatch(version) and int(version) <= _MAX_SECURITY_VERSION):
        fields.refuse("security_version", "expected the digits of a number of 64 bits")
    digest = fields.take("digest", str)
    if not _DIGEST.fullmatch(digest):
        fields.refuse("digest", "expected 64 hexadecimal digits")
    slot = Slot(
        number=_count(fields, "number"),
        state=SlotState(fields.take_choice("state", [state.value for state in SlotState])),
        digest=digest,
        version=fields.take("version", str),
        security_version=int(version),
        length=_count(fields, "length"),
        granted=fields.take("granted", bool),
        note=fields.take("note", str),
    )
    fields.finish()
    return slot


def _read_trial(fields: Fields) -> Trial:
    trial = Trial(
        health=Health(starts=_count(fields, "starts"), seconds=_count(fields, "seconds") or None),
        started=_count(fields, "started"),
        first=Moment(boot=fields.take("boot", str), seconds=_count(fields, "first")),
    )
    fields.finish()
    return trial


def _count(fields: Fields, name: str) -> int:
    number = fields.take(name, int)
    if number < 0:
        fields.refuse(name, f"{number} is below 0")
    return number
