"""The text of flows: YAML with the place of every value, edited without losing a comment, and the rules of links."""
