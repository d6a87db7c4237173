"""Of a node against files of parcels that somebody hands over."""

from __future__ import annotations

from tests.hazards.defence import defence

_FILE = "tests/node/test_parcel_file.py"
_BY_HAND = "tests/node/test_by_hand.py"

BY_HAND = (
    defence(
        "a file of parcels: a record longer than its kind can be",
        "node/parcel_file.py",
        " or length > _LONGEST[Kind(number)]",
        "",
        f"{_FILE}::test_a_record_that_claims_four_gigabytes_costs_none",
    ),
    defence(
        "a file of parcels: records without end",
        "node/parcel_file.py",
        " or records > FILE_RECORDS:",
        ":",
        f"{_FILE}::test_records_without_end_are_counted",
    ),
    defence(
        "a file of parcels: its checksum",
        "node/parcel_file.py",
        "        or take(len(computed)) != computed\n",
        "        or not take(len(computed))\n",
        f"{_FILE}::test_no_changed_byte_goes_unnoticed",
    ),
    defence(
        "a file of parcels that is a pipe",
        "node/parcel_file.py",
        "    if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_BYTES:\n",
        "    if False:\n",
        f"{_FILE}::test_what_is_no_regular_file_is_not_read",
    ),
    defence(
        "an introduction of somebody unknown",
        "node/engine/by_hand.py",
        "        if not known or core.people.is_blocked(identity):\n",
        "        if False:\n",
        f"{_BY_HAND}::test_nobody_is_introduced_who_is_no_contact",
    ),
    defence(
        "an introduction with somebody else's KeyPackage",
        "node/engine/by_hand.py",
        "        if owner != identity or device not in devices:\n",
        "        if False:\n",
        f"{_BY_HAND}::test_a_key_package_of_somebody_else_is_not_taken_with_a_bundle",
    ),
    defence(
        "KeyPackages that are meant for somebody else",
        "node/by_hand.py",
        "    if introduction.reader != me.identity:\n",
        "    if False:\n",
        f"{_BY_HAND}::test_for_one_person_or_group_and_what_is_for_others",
    ),
    defence(
        "a KeyPackage that comes in the same file again",
        "node/store/key_packages.py",
        "INSERT OR IGNORE INTO carried_key_packages",
        "INSERT OR REPLACE INTO carried_key_packages",
        f"{_BY_HAND}::test_each_key_package_of_a_file_invites_once_however_often_it_is_imported",
    ),
    defence(
        "KeyPackages of one contact without end",
        "node/store/key_packages.py",
        "CARRIED_KEY_PACKAGES = 64",
        "CARRIED_KEY_PACKAGES = 64_000",
        f"{_BY_HAND}::test_key_packages_of_one_contact_are_bounded",
    ),
)
