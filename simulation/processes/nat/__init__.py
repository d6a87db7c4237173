"""Networks as people have them: routers that translate addresses and filter, in namespaces."""
