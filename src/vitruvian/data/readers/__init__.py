"""Readers of motion files and data sets, one module for each."""
