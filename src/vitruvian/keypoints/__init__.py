"""Keypoint formats, observations in pictures, detectors, and their targets on the body."""
