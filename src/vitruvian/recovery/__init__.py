"""Networks that regress the distribution of bodies from keypoints or pixels."""
