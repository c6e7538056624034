"""What a flow is, and how it becomes a Beam pipeline. Imports no other room."""
