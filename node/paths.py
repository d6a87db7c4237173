"""Where things are in a home, and which folder that is by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

APP_NAME: Final = "quicnprotochat"
DATABASE: Final = "node.db"
DATABASE_KEY: Final = "database.key"
BEFORE_UPGRADE: Final = "node.db.before-upgrade"
CONTROL_SOCKET: Final = "control.sock"
CONFIG: Final = "config.toml"
_STATE_SUFFIX: Final = ".home"  # of the home beside a state file of the seed system


def default_home() -> Path:
    """The platform's data folder for this program."""
    import platformdirs  # late: most commands are told their home, and start faster without it

    return Path(platformdirs.user_data_path(APP_NAME))


def home_of(environment: Mapping[str, str], home: str | None, state: str | None = None) -> Path:
    """The home folder: as given, else beside the seed system's `state` file, else the default."""
    if not home and state:
        file = Path(state).expanduser().absolute()
        return file.with_name(file.name + _STATE_SUFFIX)
    chosen = home or environment.get("QUICNPROTOCHAT_HOME")
    return Path(chosen).expanduser().absolute() if chosen else default_home()
