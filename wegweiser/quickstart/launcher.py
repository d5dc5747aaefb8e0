"""The last steps of a child before it becomes its program: tied to its parent, unprivileged.

Run by path, `python -I -S launcher.py PARENT SIGNAL USER [FILE...] -- PROGRAM ARGUMENT...`, so it
needs nothing but the standard library, of which it imports little, since it delays every start.
These steps need `ctypes` and may take locks, so they cannot be a `preexec_fn` between fork and exec
of a process with threads.

Postgres refuses to run as root. A USER gives up root for good, an empty one gives up nothing; but
the clone may lie under a folder that only root may enter (/root has mode 0700), and modes outside
our home are not ours to change. Then, and only then, the program keeps the one capability that lets
it pass folders.
"""

import ctypes
import os
import pwd
import sys
from collections.abc import Callable, Sequence

# Linux: <linux/prctl.h> and <linux/capability.h>
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
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


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Each a set of bits, of the first 32 capabilities. Raises OSError."""
    header = CapabilityHeader(LINUX_CAPABILITY_VERSION_3, 0)
    data = (CapabilityData * 2)(CapabilityData(effective, permitted, inheritable))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def become(user: str, program: str, files: Sequence[str]) -> None:
    """Give up root for `user`, who must be able to run `program` and read every one of `files`.

    Ends the process with a message if that cannot be had.
    """

    def suffices() -> bool:
        return os.access(program, os.R_OK | os.X_OK) and all(
            os.access(file, os.R_OK) for file in files
        )

    account = pwd.getpwnam(user)
    may_lend = ON_LINUX and stop_fixing_capabilities()
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if may_lend:
        keep_least_capability(suffices)
    if not suffices():
        sys.exit(
            f"Run as root, this program changes to the user {user!r}, who cannot reach all of "
            f"{', '.join([program, *files])}, and this system does not let us lend the "
            "right to.\nRun it as an ordinary user, or move the clone and WEGWEISER_HOME to "
            "folders that every user may enter, or set DATABASE_URL to a Postgres that runs."
        )


def stop_fixing_capabilities() -> bool:
    """Let capabilities outlive the change of user, and count for access(2), which Postgres asks
    whether it can use its own files. False where that is not allowed."""
    try:
        prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    except PermissionError:
        return False
    return True


def keep_least_capability(suffices: Callable[[], bool]) -> None:
    """Keep none if that suffices, or else the narrowest that does, also through the exec."""
    permitted = permitted_capabilities()
    # The second also lets run what only root may run; and containers often have no other.
    for capability in (None, CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        kept = 0 if capability is None else 1 << capability
        if kept & ~permitted:
            continue
        set_capabilities(kept, permitted, kept)
        if suffices():
            set_capabilities(kept, kept, kept)
            if capability is not None:
                prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
            return
    set_capabilities(0, 0, 0)


def permitted_capabilities() -> int:
    """The first 32 as bits."""
    with open("/proc/self/status") as status:  # noqa: PTH123 (pathlib takes as long as Python)
        permitted = next(line for line in status if line.startswith("CapPrm:"))
    return int(permitted.split()[1], 16) & 0xFFFFFFFF


def end_with(parent: int, signal_number: int) -> None:
    """Have the kernel send this signal when the parent dies. Linux only."""
    prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


def main() -> None:
    options, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    parent, signal_number, user, *files = options
    if user:
        become(user, command[0], files)
    if ON_LINUX:
        # After the change of user, which resets it.
        end_with(int(parent), int(signal_number))
    os.execvp(command[0], command)  # noqa: S606 - this is what the module is for


if __name__ == "__main__":
    main()
