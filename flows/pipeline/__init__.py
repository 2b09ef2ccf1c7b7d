"""Headgate's declaration of its own: tables, registers, conntrack zones, cookies, priorities."""
