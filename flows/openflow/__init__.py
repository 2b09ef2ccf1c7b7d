"""OpenFlow as frozen values: match fields, register ranges, matches, actions and flows."""
