"""Measurements with permanent names: the engine beside its peers, over the same rows in the same run."""
