"""The async shell around the engine: links, relays, couriers."""
