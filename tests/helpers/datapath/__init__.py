"""A bridge in pure Python (the interpreter), its packets and connection tracking, and its twin on the real switch."""
