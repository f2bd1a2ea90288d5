"""Pure functions of rotations, cameras and meshes."""
