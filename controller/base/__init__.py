"""What every room stands on: the hub, threads, logs, errors. It imports no other room."""
