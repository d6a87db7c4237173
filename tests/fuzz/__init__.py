"""Coverage-guided fuzzers (atheris) of everything that reads bytes or text of strangers.

    python -m tests.fuzz [TARGET…] [--seconds S]     (or: make fuzz SECONDS=S)

`corpus/` holds inputs that reached new code or broke something; test_corpus.py replays them.
"""
