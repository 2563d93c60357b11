"""What a release manager asks, on one page: the decision, the numbers behind it, their origin."""
