"""Stage `supervised`: supervised examples read, checked and cleaned for `adapt`."""
