"""A valid `checkpoints.toml` with one model."""

GOOD_MANIFEST = """\
# a comment
[one]
summary = "s"
dataset = "d"
sde = { name = "vp", beta_min = 0.1, beta_max = 20, t_eps = 1e-3 }
shape = [1, 2, 2]
parameters = 3
source = "embedded:one.safetensors"
sha256 = ""
license = "MIT"
"""
