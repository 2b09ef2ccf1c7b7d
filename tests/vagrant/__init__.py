"""The Vagrant lab for real: virtual machines, the kernel's datapath, an API server. `make vagrant-test` runs these."""
