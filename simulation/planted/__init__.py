"""Bugs put into the program on purpose, each for one run: the simulator must find them."""
