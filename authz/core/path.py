"""Request targets: the one spelling of a path that is accepted, and everything else refused."""
