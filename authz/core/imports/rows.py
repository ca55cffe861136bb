"""Rows of a policy made of the operations of a described API.

No row opens more than its description: only an operation whose security is an empty list becomes public, and only if
its row matches nothing else that the description protects. What remains doubtful is a remark on the row.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from authz.core.bindings.spellings import fold
from authz.core.imports.operation import METHODS, Description, Operation, Security
from authz.core.imports.overlaps import Overlaps
from authz.core.imports.scopes import ScopeBy, ScopeDraft, ScopeNames
from authz.core.imports.templates import Converted, InexpressibleError, converted
from authz.core.policy.template import ANY_DEPTH, ONE, Template, TemplateError, is_grpc

_ACCOUNTS = frozenset(
    fold(f"{word}{end}")
    for word in ("account", "tenant", "customer", "organization", "organisation", "workspace")
    for end in ("id", "uuid", "")
)
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
Shape = tuple[tuple[str, ...], str]


@dataclass(slots=True)
class ImportedRow:
    """One row, with the operations that it is made of. `scope` is empty on a public row."""

    method: str
    template: str
    scope: str
    is_wide: bool
    operations: list[Operation]
    remarks: list[str] = field(default_factory=list)

    @property
    def match(self) -> str:
        """Return the row as a policy's `match` has it."""
        return self.template if is_grpc(self.template) else f"{self.method} {self.template}"

    @property
    def shape(self) -> tuple[str, Shape]:
        """Return what distinguishes the row from others, however its variables are called."""
        return self.method, shape(self.template)


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows of a description, the scopes that they need, and the operations that no row can express."""

    rows: list[ImportedRow]
    scopes: dict[str, ScopeDraft]
    omitted: list[tuple[Operation, str]]
    doubts: tuple[str, ...] = ()


def imported(description: Description, by: ScopeBy) -> Imported:
    """Make the rows of a description."""
    names = ScopeNames(by, description.tags, description.scopes)
    rows: dict[tuple[str, Shape], ImportedRow] = {}
    omitted: list[tuple[Operation, str]] = []
    for operation in description.operations:
        try:
            found = _expressed(operation)
        except (InexpressibleError, TemplateError) as error:
            omitted.append((operation, str(error)))
            continue
        row = _row(operation, found, names)
        first = rows.setdefault(row.shape, row)
        if first is not row:
            _merge(first, row)
    close_public_rows(rows.values(), rows.values(), names)
    used = {row.scope for row in rows.values()}
    scopes = {name: draft for name, draft in names.drafts.items() if name in used}
    return Imported(list(rows.values()), scopes, omitted, description.doubts)


@lru_cache(maxsize=65_536)
def shape(template: str) -> Shape:
    """Return the parts of a template and its custom verb."""
    parsed = Template.parse(template)
    return parsed.parts, parsed.verb


def close_public_rows(rows: Iterable[ImportedRow], others: Iterable[ImportedRow], names: ScopeNames) -> None:
    """Give a scope to each public row that matches a request which another row protects."""
    protected = [row for row in others if row.scope]
    exact = Overlaps((*row.shape, row.template) for row in protected if not row.is_wide)
    wide = Overlaps((*row.shape, row.template) for row in protected if row.is_wide)
    for row in rows:
        if not row.scope and (reason := _closing(row, exact, wide)) is not None:
            row.scope, remarks = names.scope(row.operations[0])
            row.remarks += [f"public in the description, but {reason}: check before you open it", *remarks]


def _closing(row: ImportedRow, exact: Overlaps, wide: Overlaps) -> str | None:
    """Return why a row is not public although its description is."""
    if row.is_wide:
        return "its row is wider than its path"
    method, mine = row.shape
    # Of two rows of which one holds all paths of the other, the narrower one is the exception that is meant. But a row
    # that was widened stands for fewer paths, and only a path without variables is told apart from those for certain.
    other = next((it for it in exact.of(method, mine) if not _is_ordered(mine, shape(it))), None)
    if other is None and not {ONE, ANY_DEPTH}.isdisjoint(mine[0]):
        other = next(wide.of(method, mine), None)
    return None if other is None else f"its row overlaps with {method} {other}"


def _is_ordered(one: Shape, other: Shape) -> bool:
    return _within(one, other) or _within(other, one)


def _within(inner: Shape, outer: Shape) -> bool:
    """Tell whether each path of one shape is also one of the other, as far as neither ends in `**`."""
    (mine, verb), (theirs, other_verb) = inner, outer
    if verb != other_verb or len(mine) != len(theirs) or ANY_DEPTH in {mine[-1], theirs[-1]}:
        return False
    return all(outside in {inside, ONE} for inside, outside in zip(mine, theirs, strict=True))


def _expressed(operation: Operation) -> Converted:
    """Return the template of an operation; raises `InexpressibleError` and `TemplateError`."""
    if operation.is_template:
        if operation.method not in METHODS:
            raise InexpressibleError(f"no policy accepts the method {operation.method}")
        if not is_grpc(operation.path):
            Template.parse(operation.path)
        return Converted(operation.path, is_wide=any(it.startswith("widened") for it in operation.doubts))
    if operation.method not in METHODS:
        raise InexpressibleError(f"no policy accepts the method {operation.method}")
    return converted(operation.path, operation.method)


def _row(operation: Operation, found: Converted, names: ScopeNames) -> ImportedRow:
    scope, remarks = "", list(found.doubts)
    if _is_public(operation):
        remarks += _public_remarks(operation)
    else:
        scope, doubts = names.scope(operation)
        remarks += [*doubts, *_security_remarks(operation)]
    method = "POST" if is_grpc(found.template) else operation.method
    row = ImportedRow(method, found.template, scope, found.is_wide, [operation])
    row.remarks = [*remarks, *operation.doubts, *_suggestions(operation, row)]
    return row


def _is_public(operation: Operation) -> bool:
    if operation.security is not Security.NONE:
        return False
    return operation.wish is None or operation.wish.access in {"", "public"}


def _public_remarks(operation: Operation) -> Iterator[str]:
    if operation.wish is not None and operation.wish.scope:
        yield f"x-authz has the scope {operation.wish.scope}, and the security is empty"


def _security_remarks(operation: Operation) -> Iterator[str]:
    match operation.security:
        case Security.OPTIONAL:
            yield "the description makes credentials optional: a row needs a key or it does not"
        case Security.UNREADABLE:
            yield "the security cannot be read, so the row needs a key"
        case _:
            pass
    wish = operation.wish
    if wish is not None and wish.access and not (wish.access == "public" and operation.security is Security.NONE):
        yield f"x-authz has access: {wish.access}, which an import does not grant: decide by hand"


def _suggestions(operation: Operation, row: ImportedRow) -> Iterator[str]:
    if operation.is_deprecated:
        yield "deprecated in the description"
    if not row.scope:
        return
    if operation.streams:
        yield "suggestion: stream: CLASS in a group of its own, for the response stays open"
    variables = () if is_grpc(row.template) else Template.parse(row.template).names
    bindings = []
    for location, name in operation.parameters:
        if name.isascii() and fold(name) in _ACCOUNTS and (location != "path" or name in variables):
            if location == "body" and row.method not in _BODY_METHODS:
                continue
            bindings.append(f"{location}:{name}")
    if bindings:
        yield f"suggestion: account: {', '.join(dict.fromkeys(bindings))}, if it is the account of the key"


def _merge(first: ImportedRow, second: ImportedRow) -> None:
    """Unite two operations in one row, which then is as strict as the stricter one."""
    operation = second.operations[0]
    first.operations.append(operation)
    first.is_wide |= second.is_wide
    first.remarks += [it for it in second.remarks if it not in first.remarks]
    first.remarks.append(f"also {operation.name}")
    if first.scope != second.scope:
        stricter = second.scope if not first.scope or (operation.is_write and second.scope) else first.scope
        first.remarks.append(f"made of {first.scope or 'public'} and {second.scope or 'public'}: check the scope")
        first.scope = stricter
