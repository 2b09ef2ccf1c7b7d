"""What the written pages claim: their links, and the commands that they tell people to type."""
