"""What this machine holds as a relay: measured against throw-away stores, then told in users."""
