"""The last steps of a child process before it becomes its program: tied to its parent, unprivileged.

Run by path, `python -I -S launcher.py OPTIONS -- PROGRAM ARGUMENT...`, so it needs nothing but the
standard library. These steps need `ctypes` and may take locks, so they cannot be a `preexec_fn`
between fork and exec of a process with threads.

Postgres refuses to run as root. `--user` gives up root for good; but the clone may lie under a
folder that only root may enter (/root has mode 0700), and modes outside our home are not ours to
change. Then, and only then, the program keeps the one capability that lets it pass folders.
"""

import argparse
import ctypes
import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

# Linux: <linux/prctl.h> and <linux/capability.h>
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

ON_LINUX = sys.platform == "linux"


class CapabilityHeader(ctypes.Structure):
    """struct __user_cap_header_struct"""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilityData(ctypes.Structure):
    """struct __user_cap_data_struct; the kernel takes two, for the low and the high 32 bits."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def prctl(option: int, *arguments: int) -> None:
    """Raises OSError."""
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def keep_only(capability: int) -> None:
    """Have this capability alone, and let it survive the exec. Raises OSError."""
    bit = 1 << capability
    header = CapabilityHeader(LINUX_CAPABILITY_VERSION_3, 0)
    data = (CapabilityData * 2)(CapabilityData(bit, bit, bit), CapabilityData(0, 0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def become(user: str, reachable: Sequence[Path]) -> None:
    """Give up root for `user`, who must be able to use every path in `reachable`.

    Ends the process with a message if that cannot be had.
    """
    account = pwd.getpwnam(user)
    if ON_LINUX:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if all(os.access(path, os.R_OK | os.X_OK) for path in reachable):
        return
    if ON_LINUX:
        # The narrower one first; containers often have only the other.
        for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
            try:
                keep_only(capability)
            except OSError:
                continue
            return
    sys.exit(
        f"Run as root, this program changes to the user {user!r}, who cannot reach all of "
        f"{', '.join(map(str, reachable))}, and this system does not let us lend the right to.\n"
        "Run it as an ordinary user, or move the clone and WEGWEISER_HOME to folders that every "
        "user may enter, or set DATABASE_URL to a Postgres that already runs."
    )


def end_with(parent: int, signal_number: int) -> None:
    """Have the kernel send this signal when the parent dies. Linux only."""
    prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("--reachable", type=Path, action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.user:
        become(options.user, options.reachable)
    if ON_LINUX:
        # After the change of user, which resets it.
        end_with(options.parent, options.signal)
    os.execvp(options.command[0], options.command)  # noqa: S606 - this is what the module is for


if __name__ == "__main__":
    main()
