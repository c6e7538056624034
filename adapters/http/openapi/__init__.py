"""OpenAPI 3 documents: what an API has, and the connection and nodes that follow from it."""
