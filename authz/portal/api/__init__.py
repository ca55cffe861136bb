"""The JSON API of the portal and its description; the pages are `../pages/`."""
