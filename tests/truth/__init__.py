"""Truth tables: the public suites' scenarios as data, for the reference semantics and for real packets."""
