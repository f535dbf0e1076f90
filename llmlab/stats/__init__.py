"""Statistics: arrays in, frozen values out; no files, clocks, data frames or global random state."""
