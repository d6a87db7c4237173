"""The control API: HTTP and JSON on a Unix socket in the home, its client, and what hosts both."""
