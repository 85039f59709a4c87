"""The search service: finds events."""
