"""The policy table: its values, its rules, how paths are matched against it, and what a change of it does."""
