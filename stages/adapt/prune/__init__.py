"""Pruning baselines: random, magnitude, Wanda and Minitron scores in the units that FineGates gates."""
