"""What both channels put up with from their peers."""
