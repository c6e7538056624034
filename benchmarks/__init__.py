"""Our figures beside their limits: each script measures both in one run, several times, and prints ratio and spread."""
