"""Rules that records must meet, by the names of Great Expectations: columnar, over a batch or over a whole run."""
