"""The reload of the policy in a running process: read by a child process, compared, and swapped as a whole."""
