"""The services of ELIS."""
