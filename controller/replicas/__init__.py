"""Several replicas of one Headgate: who is there, what each owns, and what all of them answer together."""
