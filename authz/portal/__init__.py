"""The HTTP face for people: sign-up and login for commands, the dashboard, and who a key belongs to."""
