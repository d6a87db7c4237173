"""Groups: their commits, who may make them, and one epoch for everybody in the end."""
