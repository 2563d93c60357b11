"""What "good" means: tasks, the harness, the judge, statistics and the rules of the gate. Knows no stage."""
