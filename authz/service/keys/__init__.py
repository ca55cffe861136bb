"""What operators and owners do to accounts, keys and open streams."""
