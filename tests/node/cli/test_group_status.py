"""`doctor GROUP` has words, and something to do, for whatever may be wrong with a membership."""

from __future__ import annotations

import pytest

from node.api.shapes import Group
from node.cli.checks import _group_status
from node.engine.values import GroupStatus
from tests.node.cli.fake_session import GROUP


@pytest.mark.parametrize("status", list(GroupStatus))
def test_each_status_is_told_in_words(status: GroupStatus) -> None:
    check = _group_status(Group(GROUP, "tea", "group", 1, "hybrid", status.value, True, None, []))

    assert check.ok is (status is GroupStatus.ACTIVE)
    assert bool(check.fix) is not check.ok
    assert " " in check.detail
