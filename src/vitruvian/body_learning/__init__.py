"""All that only builds the open body: registrations, learning, landmarks, writing."""
