"""What version 0.1 wrote, kept so that later versions still read it and give the same digests and numbers."""
