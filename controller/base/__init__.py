"""The foundation of all other rooms: hub, threads, logs, errors. It imports no other room."""
