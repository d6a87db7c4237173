"""All that a relay keeps, moved from one database into another: see move.py."""
