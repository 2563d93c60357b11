"""Makes `adapt_fakes` importable from the folders below."""
