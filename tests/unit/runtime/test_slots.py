"""How bundles change places between the two slots of a product."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack_runtime.errors import RollbackError, StoreError
from edgepack_runtime.slots import Health, Moment, Product, SlotState, Trial, shown
from storekit import GOOD, ON_TRIAL, READY, slot

NOW = Moment(boot="a", seconds=1000)


def states(product: Product) -> tuple[str | None, str | None]:
    """Return active and spare as ``1 good``."""
    both = (f"{s.number} {s.state.value}" if s is not None else None for s in (product.active, product.spare))
    return next(both), next(both)


def after_starts(product: Product, count: int, floor: int = 0, now: Moment = NOW) -> Product:
    for _ in range(count):
        product = product.started(floor, now)
    return product


def test_an_incoming_bundle_leaves_the_active_one_alone():
    incoming = GOOD.receiving(slot(2, SlotState.FAILED))
    assert states(incoming) == ("1 good", "2 incoming")
    assert states(incoming.installed(2)) == ("1 good", "2 installed")


def test_without_a_health_check_the_new_bundle_is_good_at_once():
    product = READY.activated(None)
    assert (states(product), product.trial) == (("2 good", "1 good"), None)


def test_with_a_health_check_the_new_bundle_is_on_trial():
    assert states(ON_TRIAL) == ("2 trial", "1 good")


def test_a_report_ends_the_trial():
    product = ON_TRIAL.proven(2)
    assert (states(product), product.trial) == (("2 good", "1 good"), None)


def test_a_report_of_another_bundle_changes_nothing():
    assert ON_TRIAL.proven(1) == ON_TRIAL


def test_after_its_starts_without_a_report_the_one_before_comes_back():
    assert states(after_starts(ON_TRIAL, 2)) == ("2 trial", "1 good")
    fallen = after_starts(ON_TRIAL, 3)
    assert states(fallen) == ("1 good", "2 failed")
    assert (fallen.trial, fallen.spare.note) == (None, "it was opened 2 times and never reported healthy")


def test_after_its_time_without_a_report_the_one_before_comes_back():
    product = READY.activated(Health(starts=9, seconds=60)).started(0, NOW)
    assert states(product.started(0, replace(NOW, seconds=1059))) == ("2 trial", "1 good")
    fallen = product.started(0, replace(NOW, seconds=1060))
    assert (states(fallen)[0], fallen.spare.note) == ("1 good", "it was not reported healthy within 60 seconds")


def test_its_time_begins_with_the_first_start():
    product = READY.activated(Health(starts=9, seconds=60))
    assert states(product.started(0, replace(NOW, seconds=10**6))) == ("2 trial", "1 good")


def test_its_time_does_not_begin_again_with_each_start():
    product = READY.activated(Health(starts=9, seconds=60)).started(0, NOW)
    product = product.started(0, replace(NOW, seconds=1050))
    assert states(product.started(0, replace(NOW, seconds=1061)))[0] == "1 good"


def test_after_the_device_was_switched_off_its_time_begins_again():
    product = READY.activated(Health(starts=9, seconds=60)).started(0, NOW)
    later = Moment(boot="b", seconds=5000)
    product = product.started(0, later)
    assert (states(product)[0], product.trial.first) == ("2 trial", later)


def test_nothing_comes_back_that_is_below_the_floor():
    assert states(after_starts(ON_TRIAL, 5, floor=2)) == ("2 trial", "1 good")


def test_with_nothing_to_fall_back_to_the_bundle_on_trial_goes_on():
    first = Product(name="digits", spare=slot(1, SlotState.INSTALLED)).activated(Health(starts=1))
    assert states(after_starts(first, 5)) == ("1 trial", None)


def test_one_that_is_given_up_changes_places_with_the_one_before():
    given_up = ON_TRIAL.given_up(2, "why")
    assert (states(given_up), given_up.spare.note, given_up.trial) == (("1 good", "2 failed"), "why", None)


@pytest.mark.parametrize("product", [ON_TRIAL.proven(2), READY, ON_TRIAL.given_up(2, "x")])
def test_only_a_bundle_on_trial_is_given_up(product):
    assert product.given_up(2, "why") == product


def test_what_a_bundle_on_trial_falls_back_to_is_not_overwritten():
    with pytest.raises(StoreError, match=r"1\.2 is on trial") as caught:
        ON_TRIAL.receiving(slot(3, SlotState.INCOMING))
    assert "edgepack-device rollback digits" in caught.value.hint


def test_a_first_bundle_that_never_reports_can_be_replaced():
    first = Product(name="digits", spare=slot(1, SlotState.INSTALLED)).activated(Health(starts=1))
    second = first.receiving(slot(2, SlotState.INCOMING)).installed(2).activated(Health())
    assert (states(second), second.spare.note) == (
        ("2 trial", "1 failed"),
        "it was replaced before it was reported healthy",
    )


@pytest.mark.parametrize(
    "product", [GOOD, ON_TRIAL, GOOD.receiving(slot(2, SlotState.INCOMING)), ON_TRIAL.given_up(2, "x")]
)
def test_nothing_but_an_installed_bundle_can_be_activated(product):
    with pytest.raises(StoreError, match="nothing is installed that is not active yet"):
        product.activated(None)


def test_a_slot_that_another_installation_has_taken_is_not_installed():
    with pytest.raises(StoreError, match="another installation"):
        GOOD.receiving(slot(2, SlotState.INCOMING)).installed(3)


def test_rolling_back_and_forth_changes_the_slots():
    product = READY.activated(None)
    back = product.rolled_back(0)
    assert states(back) == ("1 good", "2 good")
    assert back.rolled_back(0) == product


def test_a_bundle_on_trial_that_is_rolled_back_is_given_up():
    back = ON_TRIAL.rolled_back(0)
    assert (states(back), back.trial) == (("1 good", "2 failed"), None)


def test_nothing_below_the_floor_is_gone_back_to():
    with pytest.raises(RollbackError, match=r"digits 1\.1: security version 1 is lower than 2"):
        READY.activated(None).rolled_back(2)


@pytest.mark.parametrize("product", [GOOD, READY, ON_TRIAL.given_up(2, "x"), Product(name="digits")])
def test_only_what_was_good_is_gone_back_to(product):
    with pytest.raises(StoreError, match="no earlier bundle"):
        product.rolled_back(0)


@pytest.mark.parametrize(
    ("spare", "floor", "kept"),
    [
        (SlotState.INCOMING, 0, False),
        (SlotState.FAILED, 0, False),
        (SlotState.INSTALLED, 0, True),
        (SlotState.GOOD, 0, True),
        (SlotState.GOOD, 2, True),
        (SlotState.GOOD, 3, False),
        (SlotState.INSTALLED, 3, False),
    ],
)
def test_what_can_never_run_is_cleaned_away(spare, floor, kept):
    product = replace(GOOD, spare=slot(2, spare))
    assert (product.cleaned(floor).spare is not None) == kept


def test_the_active_bundle_is_never_cleaned_away():
    assert READY.activated(None).cleaned(99).active == READY.activated(None).active


@pytest.mark.parametrize(("product", "command"), [(READY, "activate digits"), (Product(name="x"), "install BUNDLE")])
def test_without_an_active_bundle_the_hint_says_what_is_missing(product, command):
    with pytest.raises(StoreError, match="no bundle is active") as caught:
        replace(product, active=None).active_slot()
    assert f"edgepack-device {command}" in caught.value.hint


@pytest.mark.parametrize(
    "slots",
    [
        {"active": slot(1, SlotState.INSTALLED)},
        {"active": slot(1, SlotState.TRIAL)},
        {"active": slot(1, SlotState.GOOD), "trial": Trial(health=Health())},
        {"spare": slot(1, SlotState.TRIAL)},
        {"trial": Trial(health=Health())},
        {"name": "../x"},
    ],
)
def test_slots_that_contradict_each_other_are_refused(slots):
    with pytest.raises(StoreError, match="contradict"):
        Product(**({"name": "digits"} | slots))


@pytest.mark.parametrize("limits", [{"starts": 0}, {"seconds": -1}, {"seconds": 10**10}, {"starts": 10**10}])
def test_a_health_check_nobody_could_pass_is_refused(limits):
    with pytest.raises(StoreError, match="health check"):
        Health(**limits)


def test_a_strangers_words_do_not_speak_to_the_terminal():
    assert shown("1.0\x1b[31m\nred" + "x" * 100, 12) == "1.0?[31m?red"
