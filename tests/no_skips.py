"""`pytest -p tests.no_skips`: where all that tests need is there, a skip is a defect."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = call.excinfo.value if call.excinfo is not None else "no reason given"
        report.outcome = "failed"
        report.longrepr = f"skipped: {reason}"
    return report
