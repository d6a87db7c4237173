"""Real nodes and a real relay as processes, each in a network namespace of its own."""
