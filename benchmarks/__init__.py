"""The benchmark: starts ELIS on this machine, sends it events, asks it questions, and prints what that costs."""
