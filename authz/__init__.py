"""An authorization sidecar for Envoy: one decision per request, one atomic Redis call per decision."""

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__`; the package metadata is read on first use, because it takes tens of milliseconds."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415 -- see above

    globals()[name] = version("authz")
    return str(globals()[name])
