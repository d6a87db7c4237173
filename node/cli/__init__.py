"""The command line: a client of the control API and of nothing else."""
