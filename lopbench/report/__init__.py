"""Results as one self-contained page that opens from disk."""
