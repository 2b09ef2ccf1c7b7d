"""The shell around the pure core (`flows` and `controller.reconcile`): sources, OVSDB, OpenFlow, HTTP and commands."""
