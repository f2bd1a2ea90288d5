"""Writing results in formats that other programs open."""
