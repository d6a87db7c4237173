"""Who somebody is, and what only they can open. Pure: no files, no sockets, no clock."""
