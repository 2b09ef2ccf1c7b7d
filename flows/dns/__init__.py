"""DNS as pods and servers send it: messages and the packets around them, read from untrusted bytes."""
