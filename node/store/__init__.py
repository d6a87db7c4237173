"""The node's one SQLite file: MLS state, inbox, outbox and ledger commit together."""
