"""What every test stands on, however the run was started."""

from __future__ import annotations

import signal

# Under nohup, or behind the `&` of a script, these are ignored, and whoever we start inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
