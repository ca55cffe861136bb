"""The pages of the portal, in HTML; the JSON API is `../api/`."""
