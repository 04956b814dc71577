"""Check whether a sampler is right, on models whose distribution and score are known exactly."""
