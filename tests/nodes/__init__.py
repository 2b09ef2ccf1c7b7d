"""What nodes say of themselves, on real switches and a real `headgate run`: whose a name and a datapath id is."""
