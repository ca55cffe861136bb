"""The use cases of account owners at the portal: sign up, log in, approve devices, manage keys."""
