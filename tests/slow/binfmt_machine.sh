#!/usr/bin/env bash
# An entry for the whole machine, for real: installed, used, and removed with nothing left; then a build that reaches its
# dispatcher by it, as kernels before Linux 6.7 must. To be run as root, in a checkout with its .venv, on a Debian that
# may be changed for some minutes, with gcc and a static qemu-arm, below directories of root's (QEMU names it; else that
# of qemu-user-static, in Debian 13 of qemu-user):
#     [QEMU=PATH] tests/slow/binfmt_machine.sh [USER [RECIPE]]
# USER builds (with his own cache); without one nothing is built. Ends with 0 only if everything is as it should be.
set -euo pipefail
cd "$(dirname "$0")/../.."
xbuild=${XBUILD-$PWD/.venv/bin/xbuild}
python=${PYTHON-$PWD/.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}

# All that an installation could change.
snapshot() {
    find /etc/binfmt.d /var/lib/xbuild /var/lib/binfmts /usr/local/lib -printf '%p %m %u %s\n' 2> /dev/null | sort || true
    grep ' binfmt_misc ' /proc/self/mountinfo | cut -d' ' -f5 || true
    ls /proc/sys/fs/binfmt_misc
}

[ "$(id -u)" = 0 ] || fail "to be run as root"
snapshot > "$work/before"
PYTHONPATH=$PWD "$python" - "$work/arm" << 'PY'
import sys
from pathlib import Path
from xbuild.doctor import programs
Path(sys.argv[1]).write_bytes(programs.arm())
PY
chmod 755 "$work" "$work/arm"

for words in "" "--dispatcher"; do
    # shellcheck disable=SC2086
    "$xbuild" binfmt.install armhf --system --yes ${QEMU+--interpreter "$QEMU"} --name xbuild-trial $words
    code=0
    "$work/arm" || code=$?
    [ "$code" = 42 ] || fail "the ARM program ended with $code"
    chroot "$work" /arm && fail "the ARM program ended with 0" || [ $? = 42 ] || fail "it does not run in a chroot"
    if [ -n "$words" ] && [ -n "${1-}" ]; then
        runuser -u "$1" -- env XBUILD_BINFMT=system "$xbuild" build "${2-zlib}" --target armhf
    fi
    "$xbuild" binfmt.remove xbuild-trial --system --yes
    snapshot | diff "$work/before" - || fail "the machine is not as it was"
done
"$xbuild" binfmt.remove xbuild-trial --system --yes && fail "what is not there was removed"
printf '=== all is well\n'
