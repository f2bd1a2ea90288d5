"""Body models: skeletons, posing and skinning, files, the open body, and learning a model from registrations."""
