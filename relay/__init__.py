"""The store-and-forward relay: keeps sealed parcels, key packages and records; reads none."""
