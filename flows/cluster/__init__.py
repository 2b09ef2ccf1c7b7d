"""What there is: the objects of a cluster as frozen values. Nothing here reads input or decides anything."""
