"""Runs flows: plans, runs, journals, recovers, reports."""
