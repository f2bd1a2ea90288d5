"""Data for training and tests: motion capture, hands, and synthetic people."""
