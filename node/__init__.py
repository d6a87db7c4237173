"""The personal node: engine, store, delivery, control API and CLI."""
