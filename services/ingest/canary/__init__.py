"""The canary: events that ELIS sends to itself and looks for, as a user would see them."""
