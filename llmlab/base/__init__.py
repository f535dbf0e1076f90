"""What every room may use: errors, display, files that people write, keys that must not leak. No room of the user's."""
