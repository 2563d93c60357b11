"""Supervised examples: read, checked and cleaned for `adapt`."""
