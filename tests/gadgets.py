"""Pickles that would do harm: most of them create a file when Python's own unpickler reads them."""

from __future__ import annotations

from pathlib import Path

from handmade import CONFIG_CLASS, Raw, assemble, call, name_global


def make_gadgets(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Name -> (opcodes that would create `marker`, what the refusal must name)."""
    shell, touch = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    run = call("builtins exec", touch).code
    os_module = call("importlib import_module", "os")
    return {
        "os.system": (call("os system", shell).code, "os.system"),
        "posix.system": (call("posix system", shell).code, "posix.system"),
        "subprocess": (call("subprocess getoutput", shell).code, "subprocess.getoutput"),
        "exec": (run, "builtins.exec"),
        "eval": (call("builtins eval", touch).code, "builtins.eval"),
        "python 2 name": (call("__builtin__ eval", touch).code, "__builtin__.eval"),
        "open": (call("builtins open", str(marker), "w").code, "builtins.open"),
        "getattr": (call("builtins getattr", os_module, "system").code + assemble((shell,)) + b"R",
                    "builtins.getattr"),
        "inside a tuple": (b"(" + assemble(1) + run + b"t", "builtins.exec"),
        "INST": (b"(" + assemble(touch) + b"ibuiltins\nexec\n", "builtins.exec"),
        "OBJ": (b"(" + name_global("os system").code + assemble(shell) + b"o", "os.system"),
        "OBJ of a known name": (b"(" + name_global("collections OrderedDict").code + b"o" + run, "OBJ"),
        "STACK_GLOBAL": (assemble("os") + assemble("system") + b"\x93" + assemble((shell,)) + b"R",
                         "os.system"),
        "dotted name": (assemble("torch") + assemble("serialization.os.system") + b"\x93" + assemble((shell,))
                        + b"R", "torch.serialization.os.system"),
        "dotted name in a known module": (assemble("collections") + assemble("_sys.modules.get") + b"\x93"
                                          + assemble(("os",)) + b"R" + run, "collections._sys.modules.get"),
        "numpy reconstruct": (call("numpy._core.multiarray _reconstruct", name_global("math sqrt"), (0,)).code
                              + run, "numpy._core.multiarray._reconstruct"),
        "torch.load": (call("torch load", str(marker)).code + run, "torch.load"),
        "storage from bytes": (call("torch.storage _load_from_bytes", "x").code + run,
                               "torch.storage._load_from_bytes"),
        "methodcaller": (call("operator methodcaller", "system", shell).code + run, "operator.methodcaller"),
        "BUILD of a module": (name_global("os path").code + assemble({"x": 1}) + b"b" + run, "os.path"),
        "EXT1": (b"\x82\x01" + run, "EXT1"),
        "EXT2": (b"\x83\x01\x00" + run, "EXT2"),
        "EXT4": (b"\x84\x01\x00\x00\x00" + run, "EXT4"),
        "PERSID": (b"Pos.system\n" + run, "PERSID"),
        "BINPERSID of a string": (assemble("x") + b"Q" + run, "persistent id"),
        "BINPERSID of a gadget": (assemble(("storage", Raw(run), "0", "cpu", 1)) + b"Q", "builtins.exec"),
        "BINPERSID of a function": (assemble(("storage", name_global("collections OrderedDict"), "0", "cpu",
                                              1)) + b"Q" + run, "persistent id"),
        "codecs": (call("_codecs encode", "x", "latin1").code + run, "_codecs.encode"),
        "NEWOBJ": (name_global("subprocess Popen").code + assemble((["touch", str(marker)],)) + b"\x81",
                   "subprocess.Popen"),
        "NEWOBJ_EX": (name_global(CONFIG_CLASS).code + b")}\x92" + run, "NEWOBJ_EX"),
        "reconstructor": (call("copyreg _reconstructor", name_global("os system"), None, None).code + run,
                          "copyreg._reconstructor"),
        "NEXT_BUFFER": (b"\x97" + run, "NEXT_BUFFER"),
        "calling the config class": (call(CONFIG_CLASS, 1).code + run, "bach_gen.model.config.ModelConfig"),
        "calling a storage class": (call("torch FloatStorage", 9).code + run, "torch.FloatStorage"),
        "config with arguments": (name_global(CONFIG_CLASS).code + assemble((1,)) + b"\x81" + run,
                                  "bach_gen.model.config.ModelConfig"),
        "OrderedDict with arguments": (call("collections OrderedDict", [("a", 1)]).code + run, "OrderedDict"),
        "OrderedDict of a gadget": (call("collections OrderedDict", [("a", Raw(run))]).code, "builtins.exec"),
        "class of a dict": (b"}" + assemble({"__class__": name_global("os system")}) + b"b" + run,
                            "os.system"),
        "BUILD with slots": (name_global(CONFIG_CLASS).code + b")\x81" + assemble(({}, {"__class__": 1}))
                             + b"b" + run, "a tuple"),
        "BUILD of a list": (b"]" + assemble({"append": 1}) + b"b" + run, "a list"),
        "REDUCE of a string": (assemble("os.system") + assemble((shell,)) + b"R" + run, "os.system"),
    }


# Those that Python's unpickler carries out to the end with nothing but the standard library.
REAL = ("os.system", "posix.system", "subprocess", "exec", "eval", "open", "getattr", "inside a tuple",
        "INST", "OBJ", "STACK_GLOBAL", "OrderedDict of a gadget")
