"""Where things are in a home, and which folder that is by default."""

from __future__ import annotations

from pathlib import Path
from typing import Final

APP_NAME: Final = "quicnprotochat"
DATABASE: Final = "node.db"
CONTROL_SOCKET: Final = "control.sock"
CONFIG: Final = "config.toml"


def default_home() -> Path:
    """The platform's data folder for this program."""
    import platformdirs  # late: most commands are told their home, and start faster without it

    return Path(platformdirs.user_data_path(APP_NAME))
