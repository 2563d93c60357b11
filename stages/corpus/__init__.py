"""Stage `corpus`: from raw text to clean documents, with a ledger of what was kept, changed or dropped."""
