"""Running plans: sessions, and NNAPI's own objects."""
