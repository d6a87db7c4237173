"""The store in PostgreSQL, for several relay processes at once."""
