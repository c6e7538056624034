"""Expressions: DuckDB SQL over the columns of a batch, bound before anything runs, faults found record by record."""
