"""`headgate lab`: one file for each subcommand."""
