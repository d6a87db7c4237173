"""Tier 1: real engines and stores on a virtual clock, an in-memory network, a model of MLS."""
