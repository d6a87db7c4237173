"""The old address of `node.demo.processes`, for fixtures made from older commits."""

from node.demo.processes import BIN, Daemon, Person, StepFailed, environment, start_relay

__all__ = ["BIN", "Daemon", "Person", "StepFailed", "environment", "start_relay"]
