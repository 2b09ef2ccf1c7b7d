"""`headgate lab`, a file a command."""
