"""Policy files and expectation files: strict YAML in, frozen values or errors with line and column out."""
