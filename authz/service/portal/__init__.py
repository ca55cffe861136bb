"""What account owners do at the portal: sign up, log in, approve devices, look after keys."""
