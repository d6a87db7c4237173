"""Real nodes, real MLS and real QUIC, in virtual time, on a network that exists only here."""
