"""The auth service: signs callers in and says who they are."""
