"""Coverage-guided fuzzers (atheris) of everything that reads bytes or text of strangers.

    python -m tests.fuzz [TARGET…] [--seconds S]     (or: make fuzz SECONDS=S)

`corpus/` holds what found something; tests/fuzz/test_corpus.py replays it on every test run.
"""
