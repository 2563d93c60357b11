"""Everything that a release manager asks on one page: the decision, the numbers behind it, and their origin."""
