"""The ingest service: takes events in and keeps them."""
