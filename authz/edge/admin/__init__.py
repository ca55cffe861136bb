"""The admin endpoints and the small HTTP server under them, on a thread of their own."""
