# What the scripts that boot a whole Debian have in common; they source it. `out` is a directory for all that is made,
# `python` has xbuild's packages. $out/extra lies over the machine's root, where it is to be root's.

part() {
    printf '\n=== [%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$1"
}

# Brings the project as it was committed to /opt/xbuild, and the python packages that it wants to /opt/wheels. Words: the
# machine's python, and its platform by uname. WHEELS names a directory with those packages, where pip cannot get them.
bring_project() {
    mkdir -p "$out/extra/opt/wheels"
    rm -rf "$out/extra/opt/xbuild"
    mkdir "$out/extra/opt/xbuild"
    git archive HEAD | tar -x -C "$out/extra/opt/xbuild"
    if [ -n "${WHEELS:-}" ]; then
        cp "$WHEELS"/*.whl "$out/extra/opt/wheels"
    elif [ -z "$(ls "$out/extra/opt/wheels")" ]; then
        "$python" -m pip download -q --only-binary=:all: --implementation cp --python-version "$1" \
            --platform "manylinux2014_$2" --platform "manylinux_2_17_$2" -d "$out/extra/opt/wheels" \
            setuptools wheel invoke jinja2 platformdirs pydantic pyelftools pyyaml rich
    fi
}

# Makes $out/made: disk.img, vmlinuz and initrd of a Debian. Words: target, suite, packages beside what xbuild needs.
make_disk() {
    "$python" - "$out" "$@" << 'END'
import shutil
import sys
from pathlib import Path

from xbuild.base import paths
from xbuild.store.own import open_store
from xbuild.model.load import load_toolchain
from xbuild.twins.privatetree import run_script
from xbuild.sandbox import idmap
from xbuild.sandbox.mounts import Bind, Overlay
from xbuild.session.run import roots_of
from xbuild.build.modes.system.parts import MKFS, TOOLS

PACKAGES = ["initramfs-tools", "iproute2", "mmdebstrap", "uidmap", "zstd", "python3-venv", "debian-archive-keyring",
            "ca-certificates", "procps", "e2fsprogs", "passwd", "util-linux", "kmod"]  # fmt: skip
out, target, suite = Path(sys.argv[1]), *sys.argv[2:4]
toolchain = load_toolchain(target, paths.PACKAGE.parent).with_suite(suite)
roots = roots_of(toolchain, open_store())
layers = roots.layers([*PACKAGES, *sys.argv[4:]])
made = out / "made"
shutil.rmtree(made, ignore_errors=True)
made.mkdir(parents=True)
idmap.own(made)
script = f"""
{MKFS} -d /tmp/tree /tmp/made/disk.img 24g
cp /tmp/tree/boot/vmlinuz-* /tmp/made/vmlinuz
cp /tmp/tree/boot/initrd.img-* /tmp/made/initrd
chmod 666 /tmp/made/*
"""
mounts = (Overlay((str(out / "extra"), *map(str, layers)), None, None, "/tmp/tree"), Bind(str(made), "/tmp/made"))
run_script(roots.machine_root(TOOLS), mounts, script, {}, "the disk could not be made")
END
}

# Boots it until it turns itself off, and shows the end of its console. Words: the time limit (timeout(1)), the emulator,
# its first options, and at last what Linux is told.
boot() {
    local limit=$1 linux=${!#}
    shift
    # Most of it is in memory, and after a crash it is made anew.
    timeout "$limit" "${@:1:$#-1}" -m 3072 -smp 2 -nographic -no-reboot \
        -kernel "$out/made/vmlinuz" -initrd "$out/made/initrd" -append "root=/dev/vda rw net.ifnames=0 panic=-1 $linux" \
        -drive "file=$out/made/disk.img,format=raw,if=virtio,cache=unsafe" -nic user,model=virtio-net-pci \
        >> "$out/console.log" 2>&1 || true
    tail -n 40 "$out/console.log"
}

# Succeeds if the console has the line; else says where to read.
said() {
    grep -qF "$1" "$out/console.log" || { echo "FAILED: $out/console.log tells" >&2; exit 1; }
}

# Writes the function `online` into a script of the machine: by QEMU's own addresses ("Network emulation" in its manual).
online() {
    cat << 'END'
online() {
    ip link set lo up
    ip link set eth0 up
    ip address add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
    echo nameserver 10.0.2.3 > /etc/resolv.conf
}
END
}
