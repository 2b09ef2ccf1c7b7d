"""The meaning of policies: a verdict for one connection (`probe`, `verdict`, `explanation`), the rules of switches
from nothing (`resolve`, `reference`), and incrementally (`engine`)."""
