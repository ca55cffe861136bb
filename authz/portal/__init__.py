"""The HTTP interface for people: signup and login for commands, the dashboard, and `whoami`."""
