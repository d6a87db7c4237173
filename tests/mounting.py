"""Disks of a test's own: small ones, read-only ones."""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

# Becomes root of a user namespace with its own mounts: asks for no rights, where that is allowed.
OWN_MOUNTS: Final = ("unshare", "-Urm")


def needs_mounting() -> None:
    """Skips the test where nothing can be mounted, as in some containers."""
    try:
        done = subprocess.run([*OWN_MOUNTS, "true"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no unshare here: nothing can be mounted")
    if done.returncode:
        pytest.skip("no user namespaces here: nothing can be mounted")
