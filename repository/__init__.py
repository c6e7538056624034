"""What was deployed and what happened: catalogue, lake, query."""
