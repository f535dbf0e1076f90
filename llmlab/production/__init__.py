"""What users ask in production, and what a release does there."""
