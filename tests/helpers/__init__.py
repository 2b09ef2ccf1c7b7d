"""What tests share: generated worlds, fake and real switches, drivers. No test lives here."""
