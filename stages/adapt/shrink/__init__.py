"""Physical removal: the units that can be cut, the budget that picks them, the slicing, the check."""
