"""The declaration of the pipeline: tables, registers, conntrack zones, cookies, priorities."""
