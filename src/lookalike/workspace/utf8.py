"""UTF-8 for files, file names, the command line and the terminal, whatever the locale says."""

import codecs
import io
import locale
import os
import sys


def use_utf8() -> None:
    """Use UTF-8 in this process and in those that it starts.

    Under another locale the process starts again in Python's UTF-8 mode, because names of files and arguments are
    decoded before any of this code runs. Characters that are not text, such as those of a file name in another
    encoding, are printed with escapes.
    """
    if not sys.flags.utf8_mode and codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
