"""Policies and expectations as text: new files, and additions to a file whose other text stays as it is."""
