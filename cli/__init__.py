"""The command `processflow`."""
