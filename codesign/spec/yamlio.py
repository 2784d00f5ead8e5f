"""YAML 1.2 in, plain Python out, with the line and column of every key and value.

PyYAML reads YAML 1.1, where `1e12` is text, `off` is False, `1:30` is 90, `010` is 8 and the last of two
equal keys wins silently.  So only its parser is used: events are resolved by the YAML 1.2 core schema
here, and nothing but mappings, lists and scalars can come out of a file.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from codesign.spec.errors import Diagnostic, SpecError

MAX_BYTES = 16_000_000
MAX_NODES = 200_000  # after aliases are expanded: a 'billion laughs' file stops here
MAX_DEPTH = 64
MAX_DIGITS = 300  # of an integer; more would not fit a float

_Loader = getattr(yaml, "CLoader", yaml.Loader)  # only its parser runs; no PyYAML constructor is ever called
_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_OPENED = {  # PyYAML's name of what it was reading, and ours
    "flow mapping": "this '{'", "flow sequence": "this '['", "quoted scalar": "this quoted text",
    "block mapping": "the mapping", "block collection": "the list", "simple key": "this line",
}  # fmt: skip
_STR_TAG = "tag:yaml.org,2002:str"

Path_ = tuple[str | int, ...]


class Mark(NamedTuple):
    """A place in a file, both counted from 1."""

    line: int
    col: int


@dataclass(frozen=True)
class Document:
    """Plain `data`, and where each key and value stands, by path (a tuple of keys and list positions)."""

    data: Any
    name: str
    lines: list[str]
    values: dict[Path_, Mark] = field(default_factory=dict)
    keys: dict[Path_, Mark] = field(default_factory=dict)

    @property
    def positions(self) -> dict[str, Mark]:
        """Dotted path -> the key's place (the value's, for list items)."""
        return {dotted(path): self.keys.get(path, mark) for path, mark in self.values.items()}

    def diagnostic(self, path: Path_, message: str, hint: str | None = None, *, at_key: bool = False) -> Diagnostic:
        """A problem at `path`, or at the nearest parent that is in the file."""
        for end in range(len(path), -1, -1):
            marks = self.keys if at_key and path[:end] in self.keys else self.values
            if path[:end] in marks:
                return _at(self, marks[path[:end]], message, hint)
        return Diagnostic(message, self.name, hint=hint)


def dotted(path: Path_) -> str:
    """('where', 0) as 'where[0]', ('a', 'b') as 'a.b'."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def load(path: str | Path) -> Document:
    """Read a YAML file with positions."""
    return parse(read_text(path), str(path))


def load_plain(path: str | Path) -> Any:
    """Read a YAML file without positions (for the catalog): same scalars, same checks."""
    return _Builder(read_text(path), str(path), marked=False).document().data


def parse(text: str, name: str = "<text>") -> Document:
    """YAML text with positions."""
    return _Builder(text, name, marked=True).document()


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema: null, bool, int, float or text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"more than {MAX_DIGITS} digits")
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read_text(path: str | Path) -> str:
    """The text of a file, or a SpecError that says why it cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            raise SpecError(Diagnostic("this is a folder, not a YAML file", str(path)))
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        folder = path.parent
        near = sorted(p.name for p in folder.glob("*.yaml"))[:12] if folder.is_dir() else []
        hint = f"in that folder: {', '.join(near)}" if near else None if folder.is_dir() else f"there is no folder '{folder}'"
        raise SpecError(Diagnostic("no such file", str(path), hint=hint)) from None
    except (OSError, ValueError) as error:
        raise SpecError(Diagnostic(f"cannot read the file: {getattr(error, 'strerror', None) or error}", str(path))) from None
    if len(raw) > MAX_BYTES:
        raise SpecError(Diagnostic(f"the file is larger than {MAX_BYTES // 1_000_000} MB", str(path)))
    if b"\0" in raw:
        raise SpecError(Diagnostic("this is a binary file, not YAML text", str(path)))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpecError(Diagnostic("this is not UTF-8 text", str(path), line, hint="save the file as UTF-8")) from None


def dump(data: Any, block: bool = False) -> str:
    """Plain data as YAML 1.2 text that `parse` reads back to the same data; `block`: every mapping one key a line."""
    dumper = _BlockDumper if block else _Dumper
    return yaml.dump(data, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _at(document: Document, mark: Mark, message: str, hint: str | None = None) -> Diagnostic:
    excerpt = document.lines[mark.line - 1] if mark.line <= len(document.lines) else ""
    return Diagnostic(message, document.name, mark.line, mark.col, hint, excerpt)


class _Builder:
    """One pass over the parser's events, without recursion: a deeply nested file cannot exhaust the stack."""

    def __init__(self, text: str, name: str, *, marked: bool) -> None:
        self.text, self.name, self.marked = text, name, marked
        self.doc = Document(None, name, _BREAK.split(text))
        self.problems: list[Diagnostic] = []
        self.n_nodes = 0
        self.anchors: dict[str, tuple[Path_, Any, int]] = {}

    def document(self) -> Document:
        try:
            data = self._build(yaml.parse(self.text, Loader=_Loader))
        except yaml.YAMLError as error:
            raise SpecError([*self.problems, self._syntax(error)]) from None
        if self.problems:
            raise SpecError(self.problems)
        if data is None:
            raise SpecError(Diagnostic("the file is empty", self.name))
        return Document(data, self.name, self.doc.lines, self.doc.values, self.doc.keys)

    def _build(self, events: Iterator[Any]) -> Any:
        root: list[Any] = []
        stack = [_Frame(root, ())]
        n_documents = 0
        for event in events:
            if isinstance(event, MappingEndEvent | SequenceEndEvent):
                done = stack.pop()
                if done.anchor:
                    self.anchors[done.anchor] = (done.path, done.target, self.n_nodes - done.n_before)
            elif isinstance(event, DocumentStartEvent):
                n_documents += 1
                if n_documents > 1:
                    self._fail(event, "a second YAML document begins here", "keep one document per file", fatal=True)
            elif isinstance(event, NodeEvent):
                if stack[-1].is_key_next:
                    self._key(stack[-1], event)
                else:
                    self._value(stack, event)
        return root[0] if root else None

    def _value(self, stack: list[_Frame], event: NodeEvent) -> None:
        frame, n_before = stack[-1], self.n_nodes
        path = frame.child() if len(stack) > 1 else ()
        if self.marked:
            self.doc.values.setdefault(path, self._place(event))
        if isinstance(event, AliasEvent):
            frame.put(self._alias(event, path, stack))
        elif isinstance(event, ScalarEvent):
            value = self._scalar(event)
            frame.put(value)
            if event.anchor:
                self.anchors[event.anchor] = (path, value, 1)
        else:
            value = self._container(event)
            frame.put(value)
            stack.append(_Frame(value, path, event.anchor, n_before))
            if len(stack) > MAX_DEPTH:
                self._fail(event, f"nested more than {MAX_DEPTH} levels deep", fatal=True)

    def _key(self, frame: _Frame, event: NodeEvent) -> None:
        if not isinstance(event, ScalarEvent):
            self._fail(event, "a key must be plain text or an integer", fatal=True)
        key = self._scalar(event)
        if isinstance(key, bool) or not isinstance(key, str | int):
            hint = f'write it in quotes: "{event.value}"' if event.value else None
            self._fail(event, "a key must be plain text or an integer", hint)
            key = event.value
        if key == "<<" and event.implicit[0]:
            self._fail(event, "merge keys ('<<') are not part of YAML 1.2", "write the keys out")
        if key in frame.seen:
            first = frame.seen[key]
            self._fail(
                event,
                f"duplicate key '{key}'",
                f"it is already given at line {first.line}, column {first.col}",
            )
        frame.seen.setdefault(key, self._place(event))
        if self.marked:
            self.doc.keys.setdefault((*frame.path, key), self._place(event))
        frame.key = key

    def _scalar(self, event: ScalarEvent) -> Any:
        self.n_nodes += 1
        if event.tag not in (None, "!", _STR_TAG):
            self._fail(
                event,
                f"tags such as '{event.tag.replace('tag:yaml.org,2002:', '!!')}' are not allowed",
                "write the plain value",
            )
            return event.value
        if event.tag is not None or not event.implicit[0]:
            return event.value
        try:
            return scalar(event.value)
        except ValueError:
            self._fail(event, "this number has too many digits")
            return 0

    def _container(self, event: MappingStartEvent | SequenceStartEvent) -> dict[Any, Any] | list[Any]:
        self.n_nodes += 1
        if event.tag not in (None, "!"):
            self._fail(
                event,
                f"tags such as '{event.tag.replace('tag:yaml.org,2002:', '!!')}' are not allowed",
                "write the plain value",
            )
        return {} if isinstance(event, MappingStartEvent) else []

    def _alias(self, event: AliasEvent, path: Path_, stack: list[_Frame]) -> Any:
        if event.anchor not in self.anchors:
            inside = any(frame.anchor == event.anchor for frame in stack)
            self._fail(
                event,
                f"alias '*{event.anchor}' " + ("contains itself" if inside else "has no anchor before it"),
                fatal=True,
            )
        origin, value, size = self.anchors[event.anchor]
        self.n_nodes += size
        if self.n_nodes > MAX_NODES:
            self._fail(event, f"aliases expand to more than {MAX_NODES:,} values", fatal=True)
        if self.marked:
            for marks in (self.doc.values, self.doc.keys):
                inner = [(p, m) for p, m in marks.items() if len(p) > len(origin) and p[: len(origin)] == origin]
                marks.update({(*path, *p[len(origin) :]): m for p, m in inner})
        return copy.deepcopy(value)

    def _place(self, event: Any) -> Mark:
        return Mark(event.start_mark.line + 1, event.start_mark.column + 1)

    def _fail(self, event: Any, message: str, hint: str | None = None, *, fatal: bool = False) -> None:
        self.problems.append(_at(self.doc, self._place(event), message, hint))
        if fatal:
            raise SpecError(self.problems)

    def _syntax(self, error: yaml.YAMLError) -> Diagnostic:
        """PyYAML's complaint in the user's words."""
        if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
            return self._forbidden_character()
        row, column = error.problem_mark.line, error.problem_mark.column
        line = self.doc.lines[row] if row < len(self.doc.lines) else ""
        problem, hint = error.problem or "not YAML", None
        opened = error.context_mark and _OPENED.get((error.context or "").partition(" a ")[2])
        if opened:
            begins = error.context_mark
            hint = f"{opened} begins at line {begins.line + 1}, column {begins.column + 1}"
        if "\t" in line[: column + 1]:
            problem, hint = "a tab cannot be used for indentation", "use spaces"
        elif not "".join(self.doc.lines[row:])[column:].strip():
            problem = "the text ends too early"
            row = max((i for i, text in enumerate(self.doc.lines) if text.strip()), default=0)
            column = len(self.doc.lines[row])
        elif "not allowed in this context" in problem:
            hint = "text that contains ': ' needs quotes"
        elif "cannot start any token" in problem:
            problem, hint = f"text cannot begin with '{line[column : column + 1]}'", "put it in quotes"
        return _at(self.doc, Mark(row + 1, column + 1), f"not valid YAML: {problem}", hint)

    def _forbidden_character(self) -> Diagnostic:
        bad = _FORBIDDEN.search(self.text)
        if bad is None:
            return Diagnostic("not valid YAML", self.name)
        line = len(_BREAK.findall(self.text, 0, bad.start()))
        col = bad.start() - max((m.end() for m in _BREAK.finditer(self.text, 0, bad.start())), default=0)
        return _at(self.doc, Mark(line + 1, col + 1), f"the character U+{ord(bad[0]):04X} is not allowed in YAML")


class _Frame:
    """A mapping or list that is being filled."""

    def __init__(self, target: Any, path: Path_, anchor: str | None = None, n_before: int = 0) -> None:
        self.target, self.path, self.anchor, self.n_before = target, path, anchor, n_before
        self.is_mapping = isinstance(target, dict)
        self.key: Any = None
        self.seen: dict[Any, Mark] = {}

    @property
    def is_key_next(self) -> bool:
        return self.is_mapping and self.key is None

    def child(self) -> Path_:
        if self.is_mapping:
            return (*self.path, self.key)
        return (*self.path, len(self.target))

    def put(self, value: Any) -> None:
        if self.is_mapping:
            self.target.setdefault(self.key, value)
            self.key = None
        else:
            self.target.append(value)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.2 would read as something else, and writes floats so that they stay floats."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _BlockDumper(_Dumper):
    """One key a line; lists of scalars stay on theirs."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        return super().represent_mapping(tag, mapping, flow_style=False)


def _represent_str(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    is_short = len(value) <= MAX_DIGITS and not set(value) & set("\r\x85\u2028\u2029\ufeff")
    is_safe = is_short and isinstance(scalar(value), str)
    return dumper.represent_scalar(_STR_TAG, value, style=None if is_safe else '"')


def _represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = repr(value).replace("inf", ".inf").replace("nan", ".nan")
    text = text if "." in text else text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(float, _represent_float)
