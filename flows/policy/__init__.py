"""What policies mean: in words (`verdict`), as rules from nothing (`reference`), and incrementally (`engine`)."""
