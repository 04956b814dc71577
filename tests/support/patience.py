"""The timeout of tests. It ends what hangs; no test may fail because a machine is slow or busy."""

# In seconds.
PATIENCE = 600
