"""The command `stats`: what a relay holds and does, at this moment."""
