"""How long tests wait for what should happen: it only ends what hangs. No test may fail because a machine is slow or busy."""

# Seconds.
PATIENCE = 600
