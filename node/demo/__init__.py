"""`demo-group`: the main job on real processes, each step verified before it counts."""
