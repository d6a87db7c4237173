"""The engine: synchronous, without sockets, sleep or wall clock; one transaction per batch."""
