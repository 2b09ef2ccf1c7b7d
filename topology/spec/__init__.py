"""What a lab shall be, as values, and the default topology beside them."""
