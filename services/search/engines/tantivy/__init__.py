"""The Tantivy engine: one index per UTC day in a folder, written by this process alone."""
