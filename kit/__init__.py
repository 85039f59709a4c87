"""The shared floor of every process; it knows no log, no incident and no user."""
