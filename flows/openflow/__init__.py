"""The language: match fields, registers' bits, matches, actions and flows as frozen values."""
