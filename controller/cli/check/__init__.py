"""`headgate check`: `command` is the command, `collect` finds, `silence` reads comments, `formats` prints."""
