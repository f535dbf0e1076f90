"""Local: a small language model on this machine, installed by one command, started when asked and shared."""
