"""Many nodes in one place, on purpose in trouble: scenarios, the tiers that play them, invariants.

Nothing here ships inside a running node. `quicnprotochat-simulate list` names the scenarios.
"""
