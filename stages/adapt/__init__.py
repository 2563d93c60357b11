"""Stage `adapt`: adaptation to tasks."""
