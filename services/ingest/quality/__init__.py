"""Data quality: what is good and bad about the events of each source, per hour."""
