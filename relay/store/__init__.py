"""What the relay keeps on disk: one contract, and the stores that fulfil it."""
