"""A relay of two processes on PostgreSQL under a steady load, one of which is killed in the end."""
