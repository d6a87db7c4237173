"""What a running program tells its operator: log lines. Never what people wrote to each other."""
