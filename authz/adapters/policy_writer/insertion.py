"""Adds rows and scopes to the text of a policy, in marked blocks; every other byte of the text stays.

The blocks go to the end of `routes` and of `scopes`, which therefore have to be written as lists and mappings over
several lines, as `authz policy import` and the samples do.
"""

import yaml

from authz.adapters.policy_writer.lines import comment, row_lines, scope_lines
from authz.core.errors import PolicyError, Problem
from authz.core.imports.merging import Merge

BEGIN = "# BEGIN imported by `authz policy import`"
END = "# END imported by `authz policy import`"


def inserted(text: str, merge: Merge, source: str, host: str = "") -> str:
    """Return the text of a policy with what a merge adds; raises `PolicyError` where it has no room for it.

    `text` is the text of a sound policy, with its own line ends. The rows are of `host` only, if there is one.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise PolicyError([Problem((), "must be a mapping", 1, 1)])
    sections = {}
    if merge.scopes:
        sections["scopes"] = list(scope_lines(merge.scopes))
    if merge.rows or merge.refused:
        refused = [comment(f"not added: {row.match}: {reason}") for row, reason in merge.refused]
        sections["routes"] = [*row_lines(merge.rows, host=host), *refused]
    # A policy whose rows are all in files that it includes has no such section of its own.
    own = {key.value for key, _ in root.value}
    additions = [(_section(root, name), lines) for name, lines in sections.items() if name in own]
    new = {name: lines for name, lines in sections.items() if name not in own}
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    # The last section first, so that the positions of the others stay true.
    for node, lines in sorted(additions, key=lambda it: -it[0].start_mark.index):
        text = _with_block(text, node, [comment(f"{BEGIN[2:]} from {source}"), *lines, END], end_of_line)
    for name, lines in new.items():
        block = [f"{name}:", *(f"  {it}" for it in (comment(f"{BEGIN[2:]} from {source}"), *lines, END))]
        text += "".join(f"{it}{end_of_line}" for it in ([""] if not text.endswith("\n") else []) + block)
    return text


def _section(root: yaml.MappingNode, name: str) -> yaml.CollectionNode:
    """Return the node of a section; raises `PolicyError` if nothing can be added to it line by line."""
    for key, value in root.value:
        if key.value == name and isinstance(value, yaml.CollectionNode):
            if value.flow_style or not value.value:
                message = f"{name} must have one line for each entry, so that an import can add to it"
                raise PolicyError([Problem((), message, value.start_mark.line + 1, value.start_mark.column + 1)])
            return value
    raise PolicyError([Problem((), f"{name} is missing", 1, 1)])


def _with_block(text: str, node: yaml.CollectionNode, lines: list[str], end_of_line: str) -> str:
    position = _behind(text, node)
    before = text[:position]
    lead = "" if not before or before.endswith("\n") else end_of_line
    indent = " " * _indent(text, node)
    return f"{before}{lead}{''.join(f'{indent}{line}{end_of_line}' for line in lines)}{text[position:]}"


def _indent(text: str, node: yaml.CollectionNode) -> int:
    """Return the column of the section's entries: of the names of a mapping, or of the dashes of a list."""
    first = node.value[0][0] if isinstance(node, yaml.MappingNode) else node.value[0]
    if isinstance(node, yaml.MappingNode):
        return int(first.start_mark.column)
    line_start = first.start_mark.index - first.start_mark.column
    return int(text.index("-", line_start) - line_start)


def _behind(text: str, node: yaml.Node) -> int:
    """Return the position behind the line on which the last value of a section ends."""
    last = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    end = last.end_mark
    if end.column == 0 and isinstance(last, yaml.ScalarNode) and last.style in {"|", ">"}:
        return int(end.index)
    newline = text.find("\n", end.index)
    return len(text) if newline < 0 else newline + 1
