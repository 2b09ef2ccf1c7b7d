"""What policy means: the reference semantics, and generated worlds to judge others by."""
