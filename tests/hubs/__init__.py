"""`headgate run` under both hubs: what holds for the whole process, whichever it runs on."""
