"""`make demo`: what `quicnprotochat demo-group` does, without an installed program."""
