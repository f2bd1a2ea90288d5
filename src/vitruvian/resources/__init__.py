"""Data files inside the package."""
