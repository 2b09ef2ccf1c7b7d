"""What Headgate says of itself: the JSON contract, and how it is read off the reconciler."""
