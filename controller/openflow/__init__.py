"""OpenFlow 1.4 sessions with switches, as an os-ken application (`app`). Policy and OVSDB must not live here."""
