"""Readers, one file per data set or file format."""
