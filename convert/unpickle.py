"""A pickle reader that cannot run anything: the few opcodes torch.save writes, over plain values.

Python's own unpickler looks names up and calls them. This one only takes opcodes apart (pickletools) and
moves numbers, strings, tuples, lists and dicts about; a global is a row of the table it is given, or the
file is refused with that global's name. It does not know what a tensor or a checkpoint is.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

_MARK = object()
_KEY_TYPES = (str, int)


@dataclass(frozen=True)
class Global:
    """What a pickled name stands for: `call` for REDUCE, `make` for NEWOBJ; None where the file may not."""

    name: str
    call: Callable[[tuple], object] | None = None
    make: Callable[[], object] | None = None
    value: object = None


class Record:
    """The stand-in for an instance: its class's name and whatever fields the file gives it."""

    def __init__(self, class_name: str):
        self.class_name = class_name
        self.fields: dict[str, object] = {}


def describe(value: object) -> str:
    """One short line for any value of a file, whatever its size or its nesting."""
    if isinstance(value, str):
        return ascii(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, int) and abs(value) >= 10**30:
        return "an enormous whole number"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a {type(value).__name__}"


def read_pickle(stream: BinaryIO, known: Mapping[str, Global],
                persistent: Callable[[object], object]) -> object:
    """The value of one pickle; the stream is left behind its last byte.

    known: "module.name" -> Global; persistent: persistent id -> value. ValueError for a global that is not
    known (by name), an opcode that torch.save does not write, or a pickle that is damaged.
    """
    machine = _Machine(known, persistent)
    for opcode, argument, position in _split(stream):
        if opcode.name == "STOP":
            return machine.pop()
        if opcode.name in ("GLOBAL", "INST"):  # pickletools separates module and name by a space
            machine.push_global(".".join(argument.split(" ")))
            continue
        step = _STEPS.get(opcode.name)
        if step is None:
            raise ValueError(f"pickle opcode {opcode.name} at byte {position} is not one that torch.save "
                             "writes; nothing was run")
        step(machine, argument)
    raise ValueError("the pickle has no end")


def _split(stream: BinaryIO) -> Iterator[tuple]:
    opcodes = pickletools.genops(stream)
    while True:
        try:
            yield next(opcodes)
        except StopIteration:
            return
        except ValueError as error:  # its text may quote the rest of the file
            raise ValueError(f"the pickle is damaged: {describe(str(error))}") from None


class _Machine:
    def __init__(self, known: Mapping[str, Global], persistent: Callable[[object], object]):
        self.known, self.persistent = known, persistent
        self.stack: list = []
        self.memo: dict[int, object] = {}

    def pop(self, expected: type | tuple[type, ...] = object) -> object:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("the pickle takes a value that is not there")
        return _expect(self.stack.pop(), expected)

    def top(self, expected: type | tuple[type, ...]) -> object:
        if not self.stack:
            raise ValueError("the pickle takes a value that is not there")
        return _expect(self.stack[-1], expected)

    def pop_to_mark(self) -> list:
        values = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise ValueError("the pickle takes a mark that is not there")
        self.stack.pop()
        return values[::-1]

    def push_global(self, name: str) -> None:
        if name not in self.known:
            raise ValueError(f"the pickle asks for {describe(name)}, which no upstream checkpoint needs; "
                             "nothing of it was run")
        self.stack.append(self.known[name])

    def remember(self, index: int) -> None:
        self.memo[index] = self.top(object)

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"the pickle recalls value {index}, which it never kept")
        self.stack.append(self.memo[index])


def _expect(value: object, expected: type | tuple[type, ...]) -> object:
    if value is _MARK or not isinstance(value, expected):
        found = "a mark" if value is _MARK else describe(value)
        raise ValueError(f"the pickle uses {found} where that kind of value cannot stand")
    return value


def _stack_global(machine: _Machine, argument) -> None:
    name, module = machine.pop(str), machine.pop(str)
    machine.push_global(f"{module}.{name}")


def _tuple_of(count: int):
    def step(machine: _Machine, argument) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(values[::-1]))
    return step


def _set_items(target: dict, flat: list) -> None:
    if len(flat) % 2:
        raise ValueError("the pickle gives a dict a key without a value")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if not isinstance(key, _KEY_TYPES):  # nothing else is hashed: a nest of tuples can take for ever
            raise ValueError(f"the pickle uses {describe(key)} as a key; expected a name or a number")
        target[key] = value


def _set_item(machine: _Machine, argument) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine.top(dict), [key, value])


def _append(machine: _Machine, argument) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _extend_list(machine: _Machine, argument) -> None:
    values = machine.pop_to_mark()
    machine.top(list).extend(values)


def _extend_dict(machine: _Machine, argument) -> None:
    values = machine.pop_to_mark()
    _set_items(machine.top(dict), values)


def _reduce(machine: _Machine, argument) -> None:
    arguments, function = machine.pop(tuple), machine.pop(Global)
    if function.call is None:
        raise ValueError(f"the pickle calls {function.name}, which is not a function")
    machine.stack.append(function.call(arguments))


def _new_object(machine: _Machine, argument) -> None:
    arguments, kind = machine.pop(tuple), machine.pop(Global)
    if kind.make is None or arguments:
        raise ValueError(f"the pickle makes an instance of {kind.name} as no upstream checkpoint does")
    machine.stack.append(kind.make())


def _build(machine: _Machine, argument) -> None:
    state = machine.pop(dict)
    target = machine.top((Record, dict))
    if isinstance(target, Record):
        for name, value in state.items():
            target.fields[str(name)] = value
    # A dict's state is torch's `_metadata` of a state_dict: versions of modules, nothing we use.


# The whole language: what torch.save writes with any of its protocols, and no more.
_STEPS: dict[str, Callable[[_Machine, object], None]] = {
    **{name: lambda machine, argument: None for name in ("PROTO", "FRAME")},
    **{name: lambda machine, argument: machine.stack.append(argument)
       for name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")},
    **{name: lambda machine, argument: machine.remember(argument) for name in ("BINPUT", "LONG_BINPUT")},
    **{name: lambda machine, argument: machine.recall(argument) for name in ("BINGET", "LONG_BINGET")},
    "MEMOIZE": lambda machine, argument: machine.remember(len(machine.memo)),
    "NONE": lambda machine, argument: machine.stack.append(None),
    "NEWTRUE": lambda machine, argument: machine.stack.append(True),
    "NEWFALSE": lambda machine, argument: machine.stack.append(False),
    "MARK": lambda machine, argument: machine.stack.append(_MARK),
    "EMPTY_LIST": lambda machine, argument: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, argument: machine.stack.append({}),
    "EMPTY_TUPLE": lambda machine, argument: machine.stack.append(()),
    "TUPLE": lambda machine, argument: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _extend_list,
    "SETITEM": _set_item,
    "SETITEMS": _extend_dict,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "BUILD": _build,
    "BINPERSID": lambda machine, argument: machine.stack.append(machine.persistent(machine.pop())),
}
