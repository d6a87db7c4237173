"""Durable files of one process: SQLite as this project opens it, migrations, the folder lock."""
