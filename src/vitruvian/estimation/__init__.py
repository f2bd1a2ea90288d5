"""From people with keypoints to the distribution of their poses and their fits."""
